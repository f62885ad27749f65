-- feed_create: open a feed under its configuration, once; with a field lease_ms, under a lease (see feed_renew).
-- KEYS meta, lease, log
-- ARGV ttl_ms, tenant, configuration (a hash of it), field, value ...
-- Returns 1 created, 0 it is there with this configuration, -1 the id is taken (another configuration, a generation,
-- another tenant).
-- @include heard
local META_OUTLIVES_LOG_MS = 3600000
if redis.call('EXISTS', KEYS[1]) == 1 then
  local held = redis.call('HMGET', KEYS[1], 'kind', 'tenant', 'config', 'status', 'lease_ms')
  if held[1] ~= 'feed' or held[2] ~= ARGV[2] or held[3] ~= ARGV[3] then return -1 end
  -- Who opens it again is about to write to it; what is over keeps its own time.
  if held[4] == 'queued' then
    local log_ms = tonumber(ARGV[1]) - META_OUTLIVES_LOG_MS
    if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[1]) then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
    if redis.call('PTTL', KEYS[3]) < log_ms then redis.call('PEXPIRE', KEYS[3], log_ms) end
    hear(KEYS[2], held[5])
  end
  return 0
end
local time = redis.call('TIME')
local now_ms = string.format('%.0f', tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000))
-- Until it ends its status is queued: what front-ends of before feeds read without expecting a worker's lease.
local fields = {'kind', 'feed', 'status', 'queued', 'tenant', ARGV[2], 'config', ARGV[3], 'created_ms', now_ms}
for i = 4, #ARGV do fields[#fields + 1] = ARGV[i] end
redis.call('HSET', KEYS[1], unpack(fields))
redis.call('PEXPIRE', KEYS[1], ARGV[1])
hear(KEYS[2], redis.call('HGET', KEYS[1], 'lease_ms'))
return 1
