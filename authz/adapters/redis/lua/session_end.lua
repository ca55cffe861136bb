-- End the session KEYS[1].
-- Reply: nil if there was none, else the id of its account.
-- One script, because the account is unknown once the session has ended.

local account_id = redis.call('HGET', KEYS[1], 'account_id')
redis.call('DEL', KEYS[1])
return account_id
