-- Count one attempt at KEYS[1] and return whether it is allowed.
-- ARGV[1] the maximum number of attempts in a window, ARGV[2] the window in milliseconds, ARGV[3] 1 to count an
-- attempt, -1 to withdraw one
-- Reply: 1 if allowed, 0 if not: a refused attempt is not counted and does not extend the window.
-- One script, because simultaneous attempts would all find the last one free.

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
