-- Decide one check for the key whose bucket and record are the string KEYS[1].
-- The string holds the bucket, two doubles of eight bytes: tokens, and the time of their count in microseconds of Unix
-- time, both 0 before the first use; then HEADER "\n" RECORD.
-- ARGV[1] epoch: a record of another epoch counts as missing
-- ARGV[2] HEADER "\n" of the active record in the caller's cache, or "\n": if the string still has this header, the
-- script reads no more of it
-- ARGV[3] doubles: cost in tokens; the values of the cached header: expiry in milliseconds, capacity in tokens and
-- refill in tokens per second; capacity and refill of keys without an own limit
-- Reply: nil if the record is missing; else one string, OUTCOME BUCKET HEADER "\n" RECORD without separators. OUTCOME
-- is g granted, l limited, e expired, or the state of a key that is not active; G and L mark the first use of a key in
-- each half minute over all sidecars. BUCKET follows these four only. Header and record follow only if they differ from
-- the caller's cache. One string, because an array costs Redis more.
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
-- A clock that was set back adds no tokens until it reaches the former time.
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
