-- Decide on the grant KEYS[1], once.
-- ARGV[1] approved or refused; of an approval ARGV[2] account id and ARGV[3] scopes, separated by spaces
-- Reply: 1; 0 if no grant is pending: it expired, or a decision was made; -1 if a scope was not requested.
-- One script, because a second decision must not replace the first.

if redis.call('HGET', KEYS[1], 'state') ~= 'pending' then return 0 end
local requested = redis.call('HGET', KEYS[1], 'requested')
if requested and requested ~= '' then
  for scope in string.gmatch(ARGV[3], '%S+') do
    if not string.find(' ' .. requested .. ' ', ' ' .. scope .. ' ', 1, true) then return -1 end
  end
end
redis.call('HSET', KEYS[1], 'state', ARGV[1], 'account_id', ARGV[2], 'scopes', ARGV[3])
return 1
