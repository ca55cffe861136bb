-- List the account's streams of one class.
-- Reply: for each {LEASE_ID, LEASE, 1 where its key was stopped}, in no order
-- One script, because what has run out is forgotten on the way.

count('', '')
local all, listed = redis.call('HGETALL', KEYS[1]), {}
for i = 1, #all, 2 do
  local it = parsed(all[i + 1])
  listed[#listed + 1] = {all[i], all[i + 1], is_stopped(it.key_id) and 1 or 0}
end
return listed
