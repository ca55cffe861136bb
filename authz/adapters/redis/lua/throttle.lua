-- Count one attempt at KEYS[1] and say whether it may go on.
-- ARGV[1] how many attempts a window holds, ARGV[2] the window in milliseconds, ARGV[3] 1 to count one more, -1 to take
-- one back that has proven harmless
-- Reply: 1 when there was room, 0 when not: an attempt that is refused is not counted and does not lengthen the window.
-- One script, because attempts that come together would all find the last free place.

local count = tonumber(redis.call('GET', KEYS[1]) or 0)
local step = tonumber(ARGV[3])
if step < 0 then
  if count > 0 then redis.call('DECR', KEYS[1]) end
  return 1
end
if count >= tonumber(ARGV[1]) then return 0 end
if redis.call('INCR', KEYS[1]) == 1 then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 1
