-- The common start of the scripts that take tokens from buckets.
-- A bucket is the first 16 bytes of a string, two doubles: tokens, and the time of their count in microseconds of Unix
-- time, both 0 before the first use.

-- Return the tokens in the bucket of `value` at `now_us`, the time of this count, and that of the last one. `refill` is
-- in tokens per second. A clock that was set back adds no tokens. If it was set back by more than a second, the count
-- continues from the new time: otherwise the bucket would stay as it is until the clock reaches the former time.
local function filled(value, capacity, refill, now_us)
  local tokens, counted_us = struct.unpack('<dd', value)
  local at_us = now_us
  if counted_us == 0 then
    tokens = capacity
  elseif counted_us < now_us then
    tokens = tokens + (now_us - counted_us) * refill / 1000000
  elseif counted_us - now_us <= 1000000 then
    at_us = counted_us
  end
  if tokens > capacity then tokens = capacity end
  return tokens, at_us, counted_us
end

