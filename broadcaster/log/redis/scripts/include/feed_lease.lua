-- include/feed_lease: a writer of a feed lives. KEYS and ARGV are those of the script that includes it.
-- renew_feed_lease(lease key, lease_ms): pushes the lease out; does nothing for a feed without one (no lease_ms).
-- A full Redis takes it, and after it every other write of the script: a write that Redis may refuse must come before it.
-- renew_created(keys, status, lease_ms, ttl_ms): a creation is repeated, so its caller is about to write: pushes out
-- the lease and the expiry of an open feed. A feed that is over keeps its expiry. keys: meta, lease, log; ttl_ms: of meta.
-- @include expiry
local function renew_feed_lease(lease_key, lease_ms)
  if lease_ms and redis.call('PEXPIRE', lease_key, lease_ms) == 0 then
    redis.pcall('SET', lease_key, 'feed', 'PX', lease_ms)
  end
end
local function renew_created(keys, status, lease_ms, ttl_ms)
  if status ~= 'queued' then return end
  local log_ms = tonumber(ttl_ms) - META_OUTLIVES_LOG_MS
  if redis.call('PTTL', keys[1]) < tonumber(ttl_ms) then redis.call('PEXPIRE', keys[1], ttl_ms) end
  if redis.call('PTTL', keys[3]) < log_ms then redis.call('PEXPIRE', keys[3], log_ms) end
  renew_feed_lease(keys[2], lease_ms)
end
