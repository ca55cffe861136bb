-- Decide several checks of keys in the caller's cache as check.lua does one after the other, with one read for all.
-- KEYS in pairs: the string of a key and that of its account, as in check.lua
-- ARGV[1] how many of the following groups are of several checks; then a group for each: an argument of the key and one
-- of the account, and for several checks their number. KEYS are in the order of the groups.
-- The argument of the key: doubles, cost in tokens, and by its header its expiry in milliseconds, capacity in tokens and
-- refill in tokens per second; then HEADER "\n" of the key as in the caller's cache, which says active. That of the
-- account: doubles, its capacity and refill, 0 if accounts have no bucket; then its HEADER "\n", which says active.
-- Reply: one string, OUTCOME BUCKET of each check in the order of KEYS, 17 bytes. OUTCOME is g, l, h or m as in
-- check.lua, upper case on the first use in a half minute; or without a bucket, which is then 0, e expired, or x if a
-- string is missing or has another header: check.lua can tell why.
-- One script, because read-refill-write from two sidecars would grant the same token twice.

local call, sub, pack = redis.call, string.sub, struct.pack
local values = redis.pcall('MGET', unpack(KEYS))
if values.err then -- a user without the right to MGET, which former versions did not use
  values = {}
  for index, key in ipairs(KEYS) do values[index] = call('GET', key) end
end
local time = call('TIME')
local now_us = time[1] * 1000000 + time[2]
local half_minute_us = now_us - now_us % 30000000
local no_bucket = pack('<dd', 0, 0)
-- The buckets so far: several checks may be of one key or one account.
local bucket_of, replies, first, at, several = {}, {}, 1, 2, tonumber(ARGV[1])
while at < #ARGV do
  local of_key, of_account, last = ARGV[at], ARGV[at + 1], first
  at = at + 2
  if several > 0 then
    last, at, several = first + 2 * ARGV[at] - 2, at + 1, several - 1
  end
  local header, account_header = sub(of_key, 33), sub(of_account, 17)
  local cost, expires_ms, capacity, refill = struct.unpack('<dddd', of_key)
  local account_capacity, account_refill = struct.unpack('<dd', of_account)
  local is_expired = expires_ms > 0 and now_us >= expires_ms * 1000
  local header_end = 16 + #header
  for index = first, last, 2 do
    local value, account = values[index], values[index + 1]
    local outcome, bucket = 'x', no_bucket
    if value and account and sub(value, 17, header_end) == header and sub(account, 17) == account_header then
      if is_expired then
        outcome = 'e'
      else
        local key, account_key = KEYS[index], KEYS[index + 1]
        local tokens, at_us, counted_us = filled(bucket_of[key] or value, capacity, refill, now_us)
        local is_account
        outcome = 'l'
        if account_capacity > 0 then
          local account_tokens, account_at_us =
            filled(bucket_of[account_key] or account, account_capacity, account_refill, now_us)
          outcome, tokens, account_tokens, is_account =
            take_both(cost, tokens, refill, account_tokens, account_refill)
          bucket = pack('<dd', account_tokens, account_at_us)
          bucket_of[account_key] = bucket
        elseif tokens >= cost then
          tokens, outcome = tokens - cost, 'g'
        end
        local key_bucket = pack('<dd', tokens, at_us)
        bucket_of[key] = key_bucket
        if not is_account then bucket = key_bucket end
        if counted_us < half_minute_us then outcome = string.upper(outcome) end
      end
    end
    replies[#replies + 1] = outcome .. bucket
  end
  first = last + 2
end
for key, bucket in pairs(bucket_of) do call('SETRANGE', key, '0', bucket) end
return table.concat(replies)
