-- restore: Redis came back without this stream's meta; its worker writes it down again, with the lease.
-- KEYS meta, lease, log
-- ARGV worker, epoch, lease_ms, live_ttl_ms, field, value ...
-- Returns 1 restored, 0 meta is there (nothing done), -1 the log has a newer epoch: not mine any more.
-- @include tail
local META_OUTLIVES_LOG_MS = 3600000
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
if read_tail(KEYS[3]) > tonumber(ARGV[2]) then return -1 end
local fields = {}
for i = 5, #ARGV do fields[#fields + 1] = ARGV[i] end
redis.call('HSET', KEYS[1], unpack(fields))
redis.call('PEXPIRE', KEYS[1], tonumber(ARGV[4]) + META_OUTLIVES_LOG_MS)
redis.call('SET', KEYS[2], ARGV[1] .. ':' .. ARGV[2], 'PX', ARGV[3])
return 1
