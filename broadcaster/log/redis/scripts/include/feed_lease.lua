-- include/feed_lease: a writer of a feed lives. KEYS and ARGV are those of the script that includes it.
-- renew_feed_lease(lease key, lease_ms): pushes the lease out; does nothing for a feed without one (no lease_ms).
-- A full Redis takes it, and after it every other write of the script: a write that Redis may refuse must come before it.
local function renew_feed_lease(lease_key, lease_ms)
  if lease_ms and redis.call('PEXPIRE', lease_key, lease_ms) == 0 then
    redis.pcall('SET', lease_key, 'feed', 'PX', lease_ms)
  end
end
