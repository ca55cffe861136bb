-- Release a lease.
-- KEYS[3] the end mark of this stream
-- ARGV[1] lease id, ARGV[2] how long later renewals are ignored, in milliseconds; 0 for a stream that may still be open
-- Reply: the age of the lease in milliseconds, -1 if there was none
-- One script, because a renewal between the two writes would restore the lease.

if tonumber(ARGV[2]) > 0 then redis.call('SET', KEYS[3], '', 'PX', ARGV[2]) end
local it = found(ARGV[1])
redis.call('HDEL', KEYS[1], ARGV[1])
return it and now - it.opened or -1
