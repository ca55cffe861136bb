-- Do to the strings at KEYS what a check does to them, and change nothing: writing nothing at offset 0 creates no key,
-- and is refused like every write. Reply: 1.
-- One script, because a user may lack the right to run scripts, to a command in them, or to keys of one kind.

redis.call('TIME')
for _, key in ipairs(KEYS) do
  redis.call('GET', key)
  redis.call('SETRANGE', key, '0', '')
end
return 1
