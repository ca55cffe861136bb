-- End the claim on the grant KEYS[1] that a poll made.
-- ARGV[1] 1 where the grant is over: the key was handed out, or there will never be one. 0 where the next poll may try
-- again.
-- Reply: 1, or 0 where there is no claim.
-- One script, because a grant that expired meanwhile must not come back without its life's end.

if redis.call('HGET', KEYS[1], 'state') ~= 'claimed' then return 0 end
if ARGV[1] == '1' then
  redis.call('DEL', KEYS[1])
else
  redis.call('HSET', KEYS[1], 'state', 'approved')
end
return 1
