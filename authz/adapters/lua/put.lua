-- Write the record of the key whose hash is KEYS[1], unless a newer revision of it is already there.
-- ARGV[1] epoch, ARGV[2] revision, ARGV[3] header, ARGV[4] how long it lives in milliseconds, then the record's chunks:
-- at least one, but none of a key that does not exist
-- Reply: 1 when written, 0 when the server holds a newer revision that was written in this epoch.
-- One script, because a slow load could otherwise overwrite the revocation that came in between. The bucket is left
-- alone: changing a record gives no tokens back.

local header = redis.call('HGET', KEYS[1], 'h')
if header then
  local epoch, revision = string.match(header, '^(%S+) (%d+) ')
  if epoch == ARGV[1] and tonumber(revision) > tonumber(ARGV[2]) then return 0 end
end
if #ARGV == 4 then
  -- A key that does not exist has no bucket either, whose longer life would become that of this entry.
  redis.call('DEL', KEYS[1])
else
  redis.call('HDEL', KEYS[1], '0', '1', '2', '3')
end
redis.call('HSET', KEYS[1], 'h', ARGV[3])
for i = 5, #ARGV do
  redis.call('HSET', KEYS[1], tostring(i - 5), ARGV[i])
end
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[4]) then
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
end
return 1
