-- Store the epoch of the data on this cluster node in the local `life`: nil if the node is a replica.
-- This code precedes other scripts, or runs alone to return the epoch.
-- Two events start another epoch. A new replication id: after a restart or a promotion, which may lose writes. And a
-- new configuration epoch of the node: a node that takes over a slot receives a higher one than the previous owner, so
-- a record that moved to another node and back, and missed a change there, is not valid any more.
-- The check runs inside the script, because a client may reach a node before it knows of the change.

local replication = redis.call('INFO', 'replication')
local life = string.match(replication, 'role:master') and string.match(replication, 'master_replid:(%x%x%x%x%x%x%x%x)')
life = life and life .. '.' .. string.match(redis.call('CLUSTER', 'INFO'), 'cluster_my_epoch:(%d+)')
