-- Give a slot back.
-- KEYS[3] the mark of this stream's end
-- ARGV[1] lease id, ARGV[2] for how many milliseconds late signs of life are ignored; 0 for a stream that may live on
-- Reply: the lease's age in milliseconds, -1 where there was none
-- One script, because a sign of life between the two writes would bring the lease back.

if tonumber(ARGV[2]) > 0 then redis.call('SET', KEYS[3], '', 'PX', ARGV[2]) end
local it = found(ARGV[1])
redis.call('HDEL', KEYS[1], ARGV[1])
return it and now - it.opened or -1
