-- List the streams of the account in one class.
-- Reply: for each stream {LEASE_ID, LEASE, 1 if its key or account is stopped}, unordered
-- One script, because it also deletes expired leases.

count('', '')
local all, listed = redis.call('HGETALL', KEYS[1]), {}
for i = 1, #all, 2 do
  local it = parsed(all[i + 1])
  listed[#listed + 1] = {all[i], all[i + 1], is_stopped(it.key_id) and 1 or 0}
end
return listed
