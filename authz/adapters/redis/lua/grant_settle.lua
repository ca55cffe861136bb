-- End the claim of a poll on the grant KEYS[1].
-- ARGV[1] 1 if the grant is finished: the key was issued, or never will be. 0 if the next poll may try again.
-- Reply: 1, or 0 if there is no claim.
-- One script, because an expired grant must not be created again without a time to live.

if redis.call('HGET', KEYS[1], 'state') ~= 'claimed' then return 0 end
if ARGV[1] == '1' then
  redis.call('DEL', KEYS[1])
else
  redis.call('HSET', KEYS[1], 'state', 'approved')
end
return 1
