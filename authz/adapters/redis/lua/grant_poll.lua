-- Tell the device whose grant is KEYS[1] how it stands, and give an approved grant to the first who asks.
-- ARGV[1] digest of the device code
-- Reply: nil where there is no such grant, it was refused, or the code is not its own; {'pending'}, also while somebody
-- else is being given the key; or {'approved', ACCOUNT_ID, SCOPES}, after which the grant is claimed.
-- One script, because of polls that come together only one may get a key.

local fields = redis.call('HMGET', KEYS[1], 'state', 'digest', 'account_id', 'scopes')
local state = fields[1]
if not state or fields[2] ~= ARGV[1] or state == 'refused' then return false end
if state ~= 'approved' then return {'pending'} end
redis.call('HSET', KEYS[1], 'state', 'claimed')
return {'approved', fields[3], fields[4]}
