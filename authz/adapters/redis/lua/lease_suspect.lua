-- Let a lease run out soon, unless its stream gives a sign of life: whoever reported it may be gone.
-- ARGV[1] lease id, ARGV[2] how long it may still live, in milliseconds
-- Reply: 1 when it was shortened, else 0
-- One script, because it must never lengthen what another has shortened or bring back what has ended.

local it, until_ms = found(ARGV[1]), now + ARGV[2]
if not it or it.kept <= until_ms then return 0 end
it.expires, it.kept = math.min(it.expires, until_ms), until_ms
keep(ARGV[1], it)
return 1
