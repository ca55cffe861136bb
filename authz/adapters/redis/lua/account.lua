-- Decide one check for the account whose string is KEYS[1], in a cluster, where its key was checked on another node.
-- The string holds the bucket (bucket.lua) and HEADER "\n".
-- ARGV[1] epoch, ARGV[2] doubles: cost in tokens; capacity in tokens and refill in tokens per second of an account
-- whose keys have no own limits, 0 if accounts have no bucket
-- Reply: nil if the record is missing or of another epoch; else one string: s suspended, g not suspended and without a
-- bucket, or h granted and m limited, followed by doubles: the tokens, and the capacity and refill that apply
-- One script, because read-refill-write from two sidecars would grant the same token twice.

local value = redis.call('GET', KEYS[1]) or ''
local epoch, state, capacity_more, refill_more = string.match(value, '^(%S+) %d+ (%a) (%S+) (%S+)\n', 17)
if epoch ~= ARGV[1] then return false end
if state ~= 'a' then return 's' end
local cost, capacity, refill = struct.unpack('<ddd', ARGV[2])
if capacity == 0 then return 'g' end
capacity, refill = capacity + capacity_more, refill + refill_more
local time = redis.call('TIME')
local tokens, at_us = filled(value, capacity, refill, time[1] * 1000000 + time[2])
local outcome = 'm'
if tokens >= cost then
  tokens, outcome = tokens - cost, 'h'
end
redis.call('SETRANGE', KEYS[1], '0', struct.pack('<dd', tokens, at_us))
return outcome .. struct.pack('<ddd', tokens, capacity, refill)
