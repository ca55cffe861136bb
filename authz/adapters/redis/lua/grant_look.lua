-- Return the grant KEYS[1] for the page of its approval.
-- ARGV[1] the maximum number of views
-- Reply: nil if no grant is pending, else {ADDRESS, CLIENT, STARTED_S, SCOPES}. A grant with more views is deleted: a stranger
-- may be guessing codes.
-- One script, because simultaneous views must all be counted.

if redis.call('HGET', KEYS[1], 'state') ~= 'pending' then return false end
if redis.call('HINCRBY', KEYS[1], 'looks', 1) > tonumber(ARGV[1]) then
  redis.call('DEL', KEYS[1])
  return false
end
return redis.call('HMGET', KEYS[1], 'address', 'client', 'started_s', 'requested')
