-- Decide several checks of keys in the caller's cache that take tokens from further buckets, too: each check from all of
-- its buckets or from none.
-- KEYS for each check: the string of a key, that of its account except in a cluster, both as in check.lua, and the hash
-- of the key's further buckets: NAME -> bucket (bucket.lua) EPOCH
-- ARGV in groups of five: HEADER "\n" of key and account, both active, as in the caller's cache, the second empty in a
-- cluster; doubles: cost in tokens, the key's expiry in milliseconds, capacity in tokens and refill in tokens per second
-- of the account, 0 if accounts have no bucket, the time to live of the hash in milliseconds, then capacity and refill of
-- the key's own bucket and of each further one; the names of these, separated by spaces; and the number of the checks to
-- which these apply, whose KEYS follow those of the group before
-- Reply: one string, OUTCOME INDEX BUCKET of each check in the order of KEYS, 18 bytes. OUTCOME is g granted or l limited,
-- upper case on the first use in a half minute; or without a bucket, which is then 0, e expired, or x if something is
-- missing or has another header: look.lua can tell why. INDEX is a byte, the bucket that is shown: 1 is the key's own,
-- then the further ones, then the account's. It is the emptiest one, or on a refusal the one that has the tokens last.
-- A further bucket that is missing is full. If the lost buckets of this epoch begin with what was refilled since its start
-- (put.lua), so do those that are missing or of another epoch.
-- One script, because read-refill-write from two sidecars would grant the same token twice.

local call, sub, pack = redis.call, string.sub, struct.pack
local time = call('TIME')
local now_us = time[1] * 1000000 + time[2]
local half_minute_us = now_us - now_us % 30000000
local no_bucket = '\0' .. pack('<dd', 0, 0)
-- What was read, and the buckets so far: several checks may be of one key or one account.
local texts, bucket_of, hashes, lives_ms = {}, {}, {}, {}
local since_epoch, since_us

-- Return a string; false if it is missing or something else.
local function text(key)
  if texts[key] == nil then
    local value = redis.pcall('GET', key)
    texts[key] = type(value) == 'string' and value
  end
  return texts[key]
end

-- Return the further bucket `name` in the hash `key`, nil if that is something else.
local function further(key, name, epoch, is_cluster)
  local hash = hashes[key]
  if not hash then
    hash = {}
    hashes[key] = hash
  end
  if hash[name] then return hash[name] end
  local value = redis.pcall('HGET', key, name)
  if type(value) == 'table' then return nil end
  if value and sub(value, 17) == epoch then return value end
  if not is_cluster and not since_epoch then
    since_epoch, since_us = string.match(call('GET', 'l:since') or '', '^(%S+) (%d+)$')
    since_epoch = since_epoch or ''
  end
  if since_epoch == epoch then return pack('<dd', 0, since_us) end
  return value or pack('<dd', 0, 0)
end

-- Take `cost` from each bucket in `values` or from none, by `limits`. Return whether all had it, the tokens and the times
-- of the count, the index of the bucket to show, and the time of the last count of the first bucket.
local function take_all(cost, values, limits)
  local tokens, at_us, first_us, granted = {}, {}, nil, true
  for index, limit in ipairs(limits) do
    local counted_us
    tokens[index], at_us[index], counted_us = filled(values[index], limit[1], limit[2], now_us)
    first_us = first_us or counted_us
    if tokens[index] < cost then granted = false end
  end
  local shown, most
  for index, limit in ipairs(limits) do
    if granted then tokens[index] = tokens[index] - cost end
    local need = granted and -tokens[index] or (cost - tokens[index]) / limit[2]
    if not most or need > most then shown, most = index, need end
  end
  return granted, tokens, at_us, shown, first_us
end

local replies, first = {}, 1
for group = 1, #ARGV, 5 do
  local header, account_header, numbers = ARGV[group], ARGV[group + 1], ARGV[group + 2]
  local cost, expires_ms, account_capacity, account_refill, life_ms = struct.unpack('<ddddd', numbers)
  local is_expired = expires_ms > 0 and now_us >= expires_ms * 1000
  local is_cluster, header_end, epoch = account_header == '', 16 + #header, string.match(header, '^%S+')
  local names, limits = {}, {{struct.unpack('<dd', numbers, 41)}}
  for name in string.gmatch(ARGV[group + 3], '%S+') do
    names[#names + 1] = name
    limits[#limits + 1] = {struct.unpack('<dd', numbers, 41 + 16 * #names)}
  end
  local of_account = account_capacity > 0 and not is_cluster and #limits + 1
  if of_account then limits[of_account] = {account_capacity, account_refill} end
  local step = is_cluster and 2 or 3
  local next_first = first + step * ARGV[group + 4]
  for at = first, next_first - step, step do
    local key, account_key, hash_key = KEYS[at], not is_cluster and KEYS[at + 1], KEYS[at + step - 1]
    local value, account = text(key), account_key and text(account_key)
    local reply = 'x' .. no_bucket
    if value and sub(value, 17, header_end) == header
      and (is_cluster or account and sub(account, 17) == account_header) then
      local values = {bucket_of[key] or value}
      for index, name in ipairs(names) do values[index + 1] = further(hash_key, name, epoch, is_cluster) end
      if is_expired then
        reply = 'e' .. no_bucket
      elseif #values == #names + 1 then
        if of_account then values[of_account] = bucket_of[account_key] or account end
        local granted, tokens, at_us, shown, first_us = take_all(cost, values, limits)
        for index, left in ipairs(tokens) do
          local bucket = pack('<dd', left, at_us[index])
          if index == shown then
            reply = granted and 'g' or 'l'
            if first_us < half_minute_us then reply = string.upper(reply) end
            reply = reply .. string.char(index) .. bucket
          end
          if index == 1 then
            bucket_of[key] = bucket
          elseif index == of_account then
            bucket_of[account_key] = bucket
          else
            hashes[hash_key][names[index - 1]] = bucket .. epoch
          end
        end
        lives_ms[hash_key] = life_ms
      end
    end
    replies[#replies + 1] = reply
  end
  first = next_first
end

for key, bucket in pairs(bucket_of) do call('SETRANGE', key, '0', bucket) end
for key, hash in pairs(hashes) do
  local words = {}
  for name, bucket in pairs(hash) do
    words[#words + 1] = name
    words[#words + 1] = bucket
  end
  if #words > 0 then
    call('HSET', key, unpack(words))
    call('PEXPIRE', key, string.format('%.0f', lives_ms[key]))
  end
end
return table.concat(replies)
