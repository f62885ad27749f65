-- retime: set how much longer an Idempotency-Key is remembered, if it still names this generation.
-- KEYS idempotency key
-- ARGV generation id, ttl_ms (0: forget it now)
-- Returns 1 done, 0 it names another one, or nothing.
local value = redis.call('GET', KEYS[1])
if not value or string.match(value, '^(%S+) ') ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
