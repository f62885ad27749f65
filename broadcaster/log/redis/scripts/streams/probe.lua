-- probe: push one message from inside a script, as append does; for `broadcaster doctor`.
-- KEYS channel
-- ARGV payload
-- Returns how many subscribers of this node received it.
return redis.call('SPUBLISH', KEYS[1], ARGV[1])
