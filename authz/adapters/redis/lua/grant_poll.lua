-- Return the state of the grant KEYS[1] to its device, and an approval to the first poll that finds it.
-- ARGV[1] digest of the device code
-- Reply: nil if the grant does not exist or has another device code; {'refused'}; {'pending'}, also while another poll
-- holds the claim; or {'approved', ACCOUNT_ID, SCOPES}, after which the grant is claimed.
-- One script, because only one of several simultaneous polls may receive a key.

local fields = redis.call('HMGET', KEYS[1], 'state', 'digest', 'account_id', 'scopes')
local state = fields[1]
if not state or fields[2] ~= ARGV[1] then return false end
if state == 'refused' then return {'refused'} end
if state ~= 'approved' then return {'pending'} end
redis.call('HSET', KEYS[1], 'state', 'claimed')
return {'approved', fields[3], fields[4]}
