-- Return the account of the session KEYS[1], and extend the session.
-- ARGV[1] life without use in milliseconds
-- Reply: nil if the session has ended, else {ACCOUNT_ID, GENERATION}.
-- One script, because a use must not restore a session that ended in between.

local fields = redis.call('HMGET', KEYS[1], 'account_id', 'generation', 'ends_ms')
if not fields[1] then return false end
local time = redis.call('TIME')
local left_ms = fields[3] - time[1] * 1000 - math.floor(time[2] / 1000)
if left_ms <= 0 then
  redis.call('DEL', KEYS[1])
  return false
end
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', math.min(ARGV[1], left_ms)))
return {fields[1], fields[2]}
