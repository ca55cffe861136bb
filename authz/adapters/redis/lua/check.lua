-- Decide one check for the key whose string is KEYS[1], and for the account whose string is KEYS[2].
-- The first holds the bucket (bucket.lua), HEADER "\n" and RECORD, which begins with the ids of key and account. The
-- second holds the account's bucket and HEADER "\n". In a cluster it is on another node, and there is no KEYS[2].
-- ARGV[1] and ARGV[2] HEADER "\n" of key and account, both active, in the caller's cache: if the strings have these
-- headers, the script reads no more of them. Without a cached record ARGV[1] is EPOCH "\n", and KEYS[2] is any key.
-- ARGV[3] doubles: cost in tokens; by the cached headers the key's expiry in milliseconds, its capacity in tokens and
-- refill in tokens per second, and the account's capacity and refill, 0 if accounts have no bucket; then capacity and
-- refill of a key without an own limit, and of an account whose keys have none
-- Reply: nil if a record is missing or of another epoch; else one string, OUTCOME BUCKET CHANGED without separators.
-- OUTCOME is e expired, s account suspended, the state of a key that is not active, or with a bucket g granted and l
-- limited, and h and m for the same with the account's bucket: the emptier one, or on a refusal the one that has the
-- tokens later. Upper case marks the first use of a key in each half minute over all sidecars. BUCKET follows these
-- only. CHANGED is empty if the caller's cache is valid, else HEADER "\n" RECORD of the key and, if it was read, "\n"
-- HEADER "\n" of the account. One string, because an array costs Redis more.
-- One script, because read-refill-write from two sidecars would grant the same token twice.

local call, sub = redis.call, string.sub
local value = call('GET', KEYS[1])
if not value then return false end
local account, account_key
if KEYS[2] then
  account_key = KEYS[2]
  account = call('GET', account_key)
end
local cost, expires_ms, capacity, refill, account_capacity, account_refill = struct.unpack('<dddddd', ARGV[3])
local changed, epoch = ''
if sub(value, 17, 16 + #ARGV[1]) ~= ARGV[1] then
  local state, account_id
  epoch, state, expires_ms, capacity, refill, account_id =
    string.match(value, '^(%S+) %d+ (%a) (%d+) (%S+) (%S+)\n%S* ?(%S*)', 17)
  -- Former versions wrote the state of the account, s, into the record of each key.
  if not epoch or epoch ~= string.match(ARGV[1], '^%S+') or state == 's' then return false end
  changed = sub(value, 17)
  if state ~= 'a' then return state .. changed end
  local usual_capacity, usual_refill = struct.unpack('<dd', ARGV[3], 49)
  capacity = capacity == '-' and usual_capacity or tonumber(capacity)
  refill = refill == '-' and usual_refill or tonumber(refill)
  expires_ms = tonumber(expires_ms)
  if account_key and account_key ~= 'a:' .. account_id then
    account_key = 'a:' .. account_id
    account = call('GET', account_key)
  end
end

local time = call('TIME')
local now_us = time[1] * 1000000 + time[2]
if expires_ms > 0 and now_us >= expires_ms * 1000 then return 'e' .. changed end

if account_key then
  if not account then return false end
  if epoch or sub(account, 17) ~= ARGV[2] then
    local account_epoch, state, capacity_more, refill_more =
      string.match(account, '^(%S+) %d+ (%a) (%S+) (%S+)\n', 17)
    if not account_epoch or account_epoch ~= string.match(ARGV[1], '^%S+') then return false end
    if state ~= 'a' then return 's' .. changed end
    account_capacity, account_refill = struct.unpack('<dd', ARGV[3], 65)
    if account_capacity > 0 then
      account_capacity, account_refill = account_capacity + capacity_more, account_refill + refill_more
    end
    changed = sub(value, 17) .. '\n' .. sub(account, 17)
  end
end

local tokens, at_us, counted_us = filled(value, capacity, refill, now_us)
local outcome, bucket = 'l'
if account_capacity > 0 and account_key then
  local account_tokens, account_at_us = filled(account, account_capacity, account_refill, now_us)
  local is_account
  outcome, tokens, account_tokens, is_account = take_both(cost, tokens, refill, account_tokens, account_refill)
  local account_bucket = struct.pack('<dd', account_tokens, account_at_us)
  call('SETRANGE', account_key, '0', account_bucket)
  bucket = is_account and account_bucket
elseif tokens >= cost then
  tokens, outcome = tokens - cost, 'g'
end
local key_bucket = struct.pack('<dd', tokens, at_us)
call('SETRANGE', KEYS[1], '0', key_bucket)
if counted_us < now_us - now_us % 30000000 then outcome = string.upper(outcome) end
return outcome .. (bucket or key_bucket) .. changed
