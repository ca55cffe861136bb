-- Shorten the life of a lease, unless its stream is renewed: the sidecar that reported it may have stopped.
-- ARGV[1] lease id, ARGV[2] the remaining life in milliseconds
-- Reply: 1 if it was shortened, else 0
-- One script, because it must never extend a shortened lease or restore an ended one.

local it, until_ms = found(ARGV[1]), now + ARGV[2]
if not it or it.kept <= until_ms then return 0 end
it.expires, it.kept = math.min(it.expires, until_ms), until_ms
keep(ARGV[1], it)
return 1
