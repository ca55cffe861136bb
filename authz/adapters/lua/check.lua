-- Decide one check for the key whose record and bucket are the hash KEYS[1]: does it work, and is there a token for it?
-- ARGV[1] epoch: a record written in another life of the server counts as missing
-- ARGV[2] cost in tokens
-- ARGV[3] capacity in tokens and ARGV[4] refill in tokens per second, of keys without a limit of their own
-- ARGV[5] how long a record lives after its last use, in milliseconds; longer where its bucket takes longer to fill
-- Reply: nil when the record is missing; else one string, "OUTCOME TOKENS\nHEADER\nRECORD", with the outcome g granted,
-- l limited, e expired, or the state of a key that opens nothing; G and L for the first use of a key in each half minute,
-- by whichever sidecar: the one that has to be noted. One string, because an array costs Redis more.
-- One script, because read-refill-write from two sidecars would grant the same token twice.

local fields = redis.call('HMGET', KEYS[1], 'h', 'b', '0', '1', '2', '3')
local header = fields[1]
if not header then return false end
local epoch, state, expires_ms, capacity, refill = string.match(header, '^(%S+) %d+ (%a) (%d+) (%S+) (%S+)$')
if epoch ~= ARGV[1] then return false end

local record = '\n' .. header .. '\n'
  .. (fields[3] or '') .. (fields[4] or '') .. (fields[5] or '') .. (fields[6] or '')
if state ~= 'a' then return state .. ' 0' .. record end

local time = redis.call('TIME')
local now_us = time[1] * 1000000 + time[2]
expires_ms = tonumber(expires_ms)
if expires_ms > 0 and now_us >= expires_ms * 1000 then return 'e 0' .. record end

capacity = tonumber(capacity == '-' and ARGV[3] or capacity)
refill = tonumber(refill == '-' and ARGV[4] or refill)
local tokens, at_us = capacity, now_us
if fields[2] then
  local held, since = string.match(fields[2], '^(%S+) (%S+)$')
  at_us = tonumber(since)
  -- A clock that went back gives nothing until it has caught up.
  local elapsed_us = math.max(0, now_us - at_us)
  tokens = math.min(capacity, tonumber(held) + elapsed_us * refill / 1000000)
end

local cost, outcome = tonumber(ARGV[2]), 'l'
if tokens >= cost then
  tokens, outcome = tokens - cost, 'g'
end
local held = string.format('%.17g', tokens)
redis.call('HSET', KEYS[1], 'b', held .. ' ' .. string.format('%.0f', math.max(now_us, at_us)))
if not fields[2] or math.floor(at_us / 30000000) ~= math.floor(now_us / 30000000) then
  outcome = string.upper(outcome)
  -- A bucket forgotten before it is full would come back with tokens it never earned. Its life is renewed by the first
  -- use and then once in an hour of use, hence the hour on top; the bound keeps the number one that PEXPIRE can read.
  if not fields[2] or math.floor(at_us / 3600000000) ~= math.floor(now_us / 3600000000) then
    local full_ms = math.ceil(capacity / refill * 1000)
    redis.call('PEXPIRE', KEYS[1], string.format('%.0f', math.min(math.max(ARGV[5], full_ms) + 3600000, 1e12)))
  end
end
return outcome .. ' ' .. held .. record
