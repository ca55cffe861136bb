-- Show the grant KEYS[1] to somebody who has typed its code.
-- ARGV[1] how often it may be looked at
-- Reply: nil where there is none to decide on, else {ADDRESS, CLIENT, STARTED_S}. A grant that is looked at more often
-- than that is gone: somebody other than its owner is at it.
-- One script, because looks that come together must all be counted.

if redis.call('HGET', KEYS[1], 'state') ~= 'pending' then return false end
if redis.call('HINCRBY', KEYS[1], 'looks', 1) > tonumber(ARGV[1]) then
  redis.call('DEL', KEYS[1])
  return false
end
return redis.call('HMGET', KEYS[1], 'address', 'client', 'started_s')
