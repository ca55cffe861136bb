-- Decide one check for the key whose record and bucket are the hash KEYS[1]: does it work, and is there a token for it?
-- ARGV[1] epoch: a record written in another life of the server counts as missing
-- ARGV[2] cost in tokens
-- ARGV[3] capacity in tokens and ARGV[4] refill in tokens per second, of keys without a limit of their own
-- ARGV[5] how long a record lives after its last use, in milliseconds; longer where its bucket takes longer to fill
-- ARGV[6] the header of the active record that the caller remembers, if any, with what it says: ARGV[7] when the key
-- expires, ARGV[8] the capacity and ARGV[9] the refill of its bucket. Where it is still the header, nothing else is read.
-- Reply: nil when the record is missing; else one string, OUTCOME TOKENS HEADER "\n" RECORD without spaces, with the outcome
-- g granted, l limited, e expired, or the state of a key that opens nothing; G and L for the first use of a key in each
-- half minute, by whichever sidecar: the one that has to be noted. TOKENS, a double of eight bytes, come with those four
-- only, header and record only where the caller does not remember them. One string, because an array costs Redis more.
-- One script, because read-refill-write from two sidecars would grant the same token twice.

local fields = redis.call('HMGET', KEYS[1], 'h', 't')
local header = fields[1]
if not header then return false end
local record, state, expires_ms, capacity, refill = '', 'a', ARGV[7], ARGV[8], ARGV[9]
if header ~= ARGV[6] then
  local epoch
  epoch, state, expires_ms, capacity, refill = string.match(header, '^(%S+) %d+ (%a) (%d+) (%S+) (%S+)$')
  if epoch ~= ARGV[1] then return false end
  local chunks = redis.call('HMGET', KEYS[1], '0', '1', '2', '3')
  record = header .. '\n' .. (chunks[1] or '') .. (chunks[2] or '') .. (chunks[3] or '') .. (chunks[4] or '')
  if state ~= 'a' then return state .. record end
  capacity, refill = capacity == '-' and ARGV[3] or capacity, refill == '-' and ARGV[4] or refill
end

local time = redis.call('TIME')
local now_us = time[1] * 1000000 + time[2]
expires_ms = tonumber(expires_ms)
if expires_ms > 0 and now_us >= expires_ms * 1000 then return 'e' .. record end

capacity, refill = tonumber(capacity), tonumber(refill)
local bucket, tokens, at_us = fields[2], capacity, now_us
if bucket then
  local held
  held, at_us = struct.unpack('<dd', bucket)
  -- A clock that went back gives nothing until it has caught up.
  tokens = math.min(capacity, held + math.max(0, now_us - at_us) * refill / 1000000)
end

local cost, outcome = tonumber(ARGV[2]), 'l'
if tokens >= cost then
  tokens, outcome = tokens - cost, 'g'
end
redis.call('HSET', KEYS[1], 't', struct.pack('<dd', tokens, math.max(now_us, at_us)))
if not bucket or math.floor(at_us / 30000000) ~= math.floor(now_us / 30000000) then
  outcome = string.upper(outcome)
  -- A bucket forgotten before it is full would come back with tokens it never earned. Its life is renewed by the first
  -- use and then once in an hour of use, hence the hour on top; the bound keeps the number one that PEXPIRE can read.
  if not bucket or math.floor(at_us / 3600000000) ~= math.floor(now_us / 3600000000) then
    local full_ms = math.ceil(capacity / refill * 1000)
    redis.call('PEXPIRE', KEYS[1], string.format('%.0f', math.min(math.max(ARGV[5], full_ms) + 3600000, 1e12)))
  end
end
return outcome .. struct.pack('<d', tokens) .. record
