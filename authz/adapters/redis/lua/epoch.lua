-- Tell the present life of the data on this node of a cluster, as the local `life`: nil where the node is a replica.
-- It stands in front of other scripts, and by itself where only the answer is wanted.
-- Two things begin another life. Another replication id: a restart or a promotion, by which writes may be lost. And
-- another configuration epoch of the node itself: whoever takes a slot over gets a higher one than its owner had, so a
-- record that was moved to another node and back, past a change that was lost there, is not taken for one that stayed.
-- In the script, because a client may reach a node before it has heard what became of it.

local replication = redis.call('INFO', 'replication')
local life = string.match(replication, 'role:master') and string.match(replication, 'master_replid:(%x%x%x%x%x%x%x%x)')
life = life and life .. '.' .. string.match(redis.call('CLUSTER', 'INFO'), 'cluster_my_epoch:(%d+)')
