-- include/heard: a writer of a feed was heard, so its lease is pushed out; nothing for a feed without one (no lease_ms).
-- KEYS and ARGV are those of the script that includes it.
-- A full Redis takes it, and after it whatever else the script writes: what it must be able to refuse comes first.
local function hear(lease_key, lease_ms)
  if lease_ms and redis.call('PEXPIRE', lease_key, lease_ms) == 0 then
    redis.pcall('SET', lease_key, 'feed', 'PX', lease_ms)
  end
end
