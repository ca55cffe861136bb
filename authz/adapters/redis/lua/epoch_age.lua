-- Return for how long the present epoch of this server has been in use: since the first call in it.
-- KEYS[1] "REPLICATION_ID STARTED_MS" of the latest epoch in which this was called
-- Reply: the age in milliseconds
-- One script, because of several first callers one must be the first.

local life = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local known, started_ms = string.match(redis.call('GET', KEYS[1]) or '', '^(%x+) (%d+)$')
-- A clock that was set back starts the count again: the age may be too small, and never too large.
if known ~= life or tonumber(started_ms) > now_ms then
  started_ms = now_ms
  redis.call('SET', KEYS[1], string.format('%s %.0f', life, now_ms))
end
return now_ms - started_ms
