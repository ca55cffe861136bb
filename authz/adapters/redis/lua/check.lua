-- Decide one check for the key whose bucket and record are the string KEYS[1]: does it work, is there a token for it?
-- It holds the bucket, two doubles of eight bytes, tokens and when they were counted in microseconds of Unix time, both
-- 0 before the first use; then HEADER "\n" RECORD.
-- ARGV[1] epoch: a record written in another life of the server counts as missing
-- ARGV[2] HEADER "\n" of the active record that the caller remembers, if any, or "\n": where it is still there, nothing
-- else is read
-- ARGV[3] doubles: the cost in tokens; what the remembered header says, when the key expires in milliseconds, capacity in
-- tokens and refill in tokens per second; capacity and refill of keys without a limit of their own
-- Reply: nil when the record is missing; else one string, OUTCOME BUCKET HEADER "\n" RECORD without spaces, with the outcome
-- g granted, l limited, e expired, or the state of a key that opens nothing; G and L for the first use of a key in each
-- half minute, by whichever sidecar: the one that has to be noted. BUCKET comes with those four only, header and record
-- only where the caller does not remember them. One string, because an array costs Redis more.
-- One script, because read-refill-write from two sidecars would grant the same token twice.

local call, unpack = redis.call, struct.unpack
local value = call('GET', KEYS[1])
if not value then return false end
local cost, expires_ms, capacity, refill = unpack('<dddd', ARGV[3])
local record = ''
if string.find(value, ARGV[2], 17, true) ~= 17 then
  local epoch, state
  record = string.sub(value, 17)
  epoch, state, expires_ms, capacity, refill = string.match(record, '^(%S+) %d+ (%a) (%d+) (%S+) (%S+)\n')
  if epoch ~= ARGV[1] then return false end
  if state ~= 'a' then return state .. record end
  local usual_capacity, usual_refill = unpack('<dd', ARGV[3], 33)
  capacity = capacity == '-' and usual_capacity or tonumber(capacity)
  refill = refill == '-' and usual_refill or tonumber(refill)
  expires_ms = tonumber(expires_ms)
end

local time = call('TIME')
local now_us = time[1] * 1000000 + time[2]
if expires_ms > 0 and now_us >= expires_ms * 1000 then return 'e' .. record end

local tokens, counted_us = unpack('<dd', value)
-- A clock that went back gives nothing until it has caught up.
local at_us = math.max(counted_us, now_us)
tokens = tokens + (at_us - counted_us) * refill / 1000000
if counted_us == 0 or tokens > capacity then tokens = capacity end

local outcome = 'l'
if tokens >= cost then
  tokens, outcome = tokens - cost, 'g'
end
if counted_us < now_us - now_us % 30000000 then outcome = string.upper(outcome) end
local bucket = struct.pack('<dd', tokens, at_us)
call('SETRANGE', KEYS[1], '0', bucket)
return outcome .. bucket .. record
