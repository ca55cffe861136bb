-- Read the record of the key whose string is KEYS[1], and that of its account, without a check: which buckets the key
-- has is not known before.
-- ARGV[1] EPOCH "\n", ARGV[2] 1 if accounts are on this server, which they are not in a cluster
-- Reply: nil if a record is missing or of another epoch; else one string, OUTCOME CHANGED as in check.lua. OUTCOME is k if
-- key and account are active, else that of check.lua.
-- One script, because the record names the account to read.

local value = redis.call('GET', KEYS[1]) or ''
local epoch, state, expires_ms, account_id = string.match(value, '^(%S+) %d+ (%a) (%d+) %S+ %S+\n%S* ?(%S*)', 17)
if not epoch or epoch ~= string.match(ARGV[1], '^%S+') or state == 's' then return false end
local changed = string.sub(value, 17)
if state ~= 'a' then return state .. changed end
local time = redis.call('TIME')
if tonumber(expires_ms) > 0 and time[1] * 1000 + time[2] / 1000 >= tonumber(expires_ms) then return 'e' .. changed end
if ARGV[2] ~= '1' then return 'k' .. changed end
local account = redis.call('GET', 'a:' .. account_id) or ''
local account_epoch, account_state = string.match(account, '^(%S+) %d+ (%a) %S+ %S+\n', 17)
if account_epoch ~= epoch then return false end
if account_state ~= 'a' then return 's' .. changed end
return 'k' .. changed .. '\n' .. string.sub(account, 17)
