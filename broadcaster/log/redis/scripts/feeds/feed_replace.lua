-- feed_replace: open a feed under its configuration over whatever feed has the id: open, over or deleted. Its entries go;
-- the new ones continue its numbers under a newer epoch, behind an `attempt` entry that voids what viewers have seen.
-- Once that entry is trimmed, meta's since_epoch, which is newer than the entry's, shows that older cursors are void.
-- Writers of the old one are refused from now on, because they name another configuration (feed_append, feed_renew).
-- KEYS meta, lease, log, live channel, idem, taken
-- ARGV ttl_ms, tenant, configuration (a hash of it), field, value ...
-- Returns 1 created, 0 it is there with this configuration, -1 the id is taken by a generation or another tenant, -2 Redis
-- is full: nothing was done.
-- @include clock
-- @include expiry
-- @include feed_lease
-- @include feed_tail
local KNOWN = {'kind', 'tenant', 'config', 'last_id', 'terminal_id', 'attempts', 'epoch', 'v', 'status', 'lease_ms'}
local meta = {}
for i, value in ipairs(redis.call('HMGET', KEYS[1], unpack(KNOWN))) do meta[KNOWN[i]] = value end
if meta.kind then
  if meta.kind ~= 'feed' or meta.tenant ~= ARGV[2] then return -1 end
  if meta.config == ARGV[3] then
    renew_created(KEYS, meta.status, meta.lease_ms, ARGV[1])
    return 0
  end
end
local now_ms = read_clock()
local last_epoch, last_seq, _, _, least_epoch = read_feed_tail(KEYS[3], meta.last_id or meta.terminal_id)
local epoch = math.max(now_ms, least_epoch + 1, tonumber(meta.epoch or 0))
local attempt = tonumber(meta.attempts or 1) + 1

local fields = {'kind', 'feed', 'status', 'queued', 'tenant', ARGV[2], 'config', ARGV[3], 'created_ms', digits(now_ms),
  'since_epoch', digits(last_seq > 0 and epoch + 1 or epoch)}
for i = 4, #ARGV do fields[#fields + 1] = ARGV[i] end
if last_seq > 0 then fields[#fields + 1], fields[#fields + 2] = 'attempts', attempt end
-- First what a full Redis refuses.
local written = redis.pcall('HSET', KEYS[1], unpack(fields))
if type(written) == 'table' and written.err then return -2 end
local kept = {}
for i = 1, #fields, 2 do kept[fields[i]] = true end
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
  if not kept[field] then redis.call('HDEL', KEYS[1], field) end
end
redis.call('DEL', KEYS[2], KEYS[3], KEYS[5], KEYS[6])
renew_feed_lease(KEYS[2], redis.call('HGET', KEYS[1], 'lease_ms'))
if last_seq > 0 then
  local event = string.format('{"type":"attempt","attempt":%d,"reason":"replaced"}', attempt)
  local id = string.format('%.0f-%.0f', epoch, last_seq + 1)
  redis.call('XADD', KEYS[3], id, 'e', event, 'v', redis.call('HGET', KEYS[1], 'v'), 'b', digits(#event))
  redis.call('HSET', KEYS[1], 'last_id', id)
  redis.call('PEXPIRE', KEYS[3], digits(tonumber(ARGV[1]) - META_OUTLIVES_LOG_MS))
  redis.call('SPUBLISH', KEYS[4], string.format('1 %.0f %.0f 1 %.0f\n', epoch, last_seq + 1, last_epoch) .. event)
end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 1
