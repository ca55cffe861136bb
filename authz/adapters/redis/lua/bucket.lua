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

-- Take `cost` from the buckets of key and account, from both or none. Return the outcome as in check.lua, the tokens of
-- both, and whether the account's is the emptier one, or on a refusal the one that has the tokens later.
local function take_both(cost, tokens, refill, account_tokens, account_refill)
  local is_account = account_tokens < tokens
  if tokens >= cost and account_tokens >= cost then
    return is_account and 'h' or 'g', tokens - cost, account_tokens - cost, is_account
  end
  if tokens < cost then
    is_account = (cost - account_tokens) / account_refill > (cost - tokens) / refill
  end
  return is_account and 'm' or 'l', tokens, account_tokens, is_account
end

