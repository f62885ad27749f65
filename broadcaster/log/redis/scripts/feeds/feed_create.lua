-- feed_create: open a feed under its configuration, once; with a field lease_ms, under a lease (see feed_renew).
-- KEYS meta, lease, log
-- ARGV ttl_ms, tenant, configuration (a hash of it), field, value ...
-- Returns 1 created, 0 it is there with this configuration, -1 the id is taken (another configuration, a generation,
-- another tenant).
-- @include clock
-- @include expiry
-- @include feed_lease
if redis.call('EXISTS', KEYS[1]) == 1 then
  local found = redis.call('HMGET', KEYS[1], 'kind', 'tenant', 'config', 'status', 'lease_ms')
  if found[1] ~= 'feed' or found[2] ~= ARGV[2] or found[3] ~= ARGV[3] then return -1 end
  renew_created(KEYS, found[4], found[5], ARGV[1])
  return 0
end
local now_ms = digits(read_clock())
-- Until it ends its status is `queued`: with `running`, front-ends from before feeds would expect a worker's lease.
local fields = {'kind', 'feed', 'status', 'queued', 'tenant', ARGV[2], 'config', ARGV[3], 'created_ms', now_ms,
  'since_epoch', now_ms}
for i = 4, #ARGV do fields[#fields + 1] = ARGV[i] end
redis.call('HSET', KEYS[1], unpack(fields))
redis.call('PEXPIRE', KEYS[1], ARGV[1])
renew_feed_lease(KEYS[2], redis.call('HGET', KEYS[1], 'lease_ms'))
return 1
