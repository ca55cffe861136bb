-- The common start of the scripts on leases.
-- KEYS[1] the leases of one account and class, a hash: lease id -> "KEY_ID OPENED_MS EXPIRES_MS KEPT_MS SEEN_MS
-- CLAIMS". A lease counts until EXPIRES_MS and is deleted at KEPT_MS, which is later only if its key or account is
-- stopped. SEEN_MS is 0 before the first renewal. CLAIMS is the number of checks of the same request that acquired it.
-- KEYS[2] the keys of the account that changed their state, and the account, a hash: id -> "REVISION STATE"

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function parsed(text)
  local key_id, opened, expires, kept, seen, claims =
    string.match(text or '', '^(%S+) (%d+) (%d+) (%d+) (%d+) (%d+)$')
  return key_id and {key_id = key_id, opened = tonumber(opened), expires = tonumber(expires), kept = tonumber(kept),
    seen = tonumber(seen), claims = tonumber(claims)}
end

local function found(id)
  return parsed(redis.call('HGET', KEYS[1], id))
end

local function keep(id, it)
  redis.call('HSET', KEYS[1], id, string.format('%s %.0f %.0f %.0f %.0f %.0f',
    it.key_id, it.opened, it.expires, it.kept, it.seen, it.claims))
  redis.call('PEXPIRE', KEYS[1], 7200000)  -- twice the longest that a lease can live
end

local function is_stopped(key_id)
  for _, id in ipairs({key_id, string.match(KEYS[2], '{(.*)}')}) do
    local mark = redis.call('HGET', KEYS[2], id)
    if mark and not string.find(mark, ' a$') then return true end
  end
  return false
end

-- Tell whether the data have another mark (connection/data_mark.py) than `mark`, which is empty if there is none.
local function is_other(mark)
  return mark ~= '' and redis.call('GET', 'l:data') ~= mark
end

-- Delete expired leases, and count those of a key and of the account, without the lease `aside`.
local function count(key_id, aside)
  local of_key, of_account, expired = 0, 0, 0
  local all = redis.call('HGETALL', KEYS[1])
  for i = 1, #all, 2 do
    local it = parsed(all[i + 1])
    if all[i] == aside then
      it = nil
    elseif not it or it.kept <= now then
      redis.call('HDEL', KEYS[1], all[i])
      expired = expired + 1
    elseif it.expires > now then
      of_account = of_account + 1
      if it.key_id == key_id then of_key = of_key + 1 end
    end
  end
  return of_key, of_account, expired
end

