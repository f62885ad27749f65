-- include/expiry: how long a stream is kept. KEYS and ARGV are those of the script that includes it.
-- The meta outlives the log, because it holds the terminal event.
-- keep_stream(log key, meta key, ttl_ms) → 1 if there is a log, else 0.
-- @include clock
local META_OUTLIVES_LOG_MS = 3600000
local function keep_stream(log_key, meta_key, ttl_ms)
  redis.call('PEXPIRE', meta_key, digits(tonumber(ttl_ms) + META_OUTLIVES_LOG_MS))
  return redis.call('PEXPIRE', log_key, ttl_ms)
end
