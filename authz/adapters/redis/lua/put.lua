-- Write the record of the key or account whose string is KEYS[1] (check.lua), unless Redis holds a newer revision.
-- ARGV[1] epoch, ARGV[2] revision, ARGV[3] header, ARGV[4] time to live in milliseconds, 0 for none, and ARGV[5] its
-- start if that is in the future, in milliseconds of Unix time; ARGV[6] the end of the write in microseconds of Unix
-- time; ARGV[7] the mark of the data that the caller knows, empty in a cluster; ARGV[9] the record: none for an unknown
-- key, empty for an account
-- Reply: 1 if written, 0 if Redis holds a newer revision of this epoch, -1 if it is too late: the writer may have given
-- up its lock on the row since, and Redis may have lost a newer revision. An error if Redis has other data than the
-- caller knows, whatever the clocks say.
-- ARGV[8] how a bucket begins that is not there: f full, r with what was refilled since the start of the epoch, which
-- `l:since` has as "EPOCH STARTED_US". So the first write after a loss gives no tokens, and one much later all of them.
-- One script, because a slow load could otherwise replace a revocation. The bucket stays: a changed record adds no
-- tokens. With r it does not outlive its epoch, because the new one may have lost what was taken from it.

local time = redis.call('TIME')
if time[1] * 1000000 + time[2] >= tonumber(ARGV[6]) then return -1 end
if ARGV[7] ~= '' and redis.call('GET', 'l:data') ~= ARGV[7] then
  return redis.error_reply('OTHERDATA redis has lost its data')
end
local value = redis.call('GET', KEYS[1]) or ''
local epoch, revision = string.match(value, '^(%S+) (%d+) ', 17)
if epoch == ARGV[1] and tonumber(revision) > tonumber(ARGV[2]) then return 0 end
local bucket = string.rep('\0', 16)  -- an unknown key has none
if ARGV[9] and epoch and (epoch == ARGV[1] or ARGV[8] == 'f') then
  bucket = string.sub(value, 1, 16)
elseif ARGV[9] and ARGV[8] == 'r' then
  local life, since_us = string.match(redis.call('GET', 'l:since') or '', '^(%S+) (%d+)$')
  if life ~= ARGV[1] then
    since_us = string.format('%.0f', time[1] * 1000000 + time[2])
    redis.call('SET', 'l:since', ARGV[1] .. ' ' .. since_us)
  end
  bucket = struct.pack('<dd', 0, since_us)
end
redis.call('SET', KEYS[1], bucket .. ARGV[3] .. '\n' .. (ARGV[9] or ''))
if ARGV[4] ~= '0' then
  local before_ms = math.max(0, ARGV[5] - time[1] * 1000)
  redis.call('PEXPIRE', KEYS[1], string.format('%.0f', before_ms + ARGV[4]))
end
return 1
