-- durable_create: open a Durable Stream, with its first content, and closed at once if an end event is given. Over a
-- stream that was deleted it continues the numbers, behind an `attempt` entry that voids what viewers have seen.
-- KEYS log, meta, live channel, producers, lease, idem, taken
-- ARGV tenant, configuration (a hash of it), live_ttl_ms, push_max_bytes, format version, status the end gives ('' none),
--      end event ('' none), place of the first event in ARGV, field, value ..., event ...
-- Returns {code, epoch, seq}: 1 created, 0 it is there with this configuration and as open or closed as requested, -1 the
-- id is taken; the entry of content that it ends with (zeros: it has none).
-- @include durable
local FIELDS_FROM = 9
local events_from = tonumber(ARGV[8])
local status, ending = ARGV[6], ARGV[7]
local KNOWN = {'kind', 'tenant', 'config', 'status', 'deleted_ms', 'last_id', 'terminal_id', 'attempts', 'epoch', 'durable_tail'}
local meta = {}
for i, value in ipairs(redis.call('HMGET', KEYS[2], unpack(KNOWN))) do meta[KNOWN[i]] = value end

if meta.kind or meta.tenant then
  if meta.kind ~= 'feed' or meta.tenant ~= ARGV[1] then return {-1, 0, 0} end
  if not meta.deleted_ms then
    if meta.config ~= ARGV[2] or (meta.status ~= 'queued') ~= (ending ~= '') then return {-1, 0, 0} end
    local epoch, seq = string.match(meta.durable_tail or '0-0', '^(%d+)-(%d+)$')
    return {0, tonumber(epoch), tonumber(seq)}
  end
end

local now_ms = read_clock()
local tail = read_durable_tail(KEYS[1], meta.last_id or meta.terminal_id)
local is_over_deleted = tail.seq > 0
local fields = {'kind', 'feed', 'status', 'queued', 'tenant', ARGV[1], 'config', ARGV[2], 'created_ms', digits(now_ms)}
for i = FIELDS_FROM, events_from - 1 do fields[#fields + 1] = ARGV[i] end
if is_over_deleted then
  fields[#fields + 1], fields[#fields + 2] = 'attempts', digits(tonumber(meta.attempts or 1) + 1)
end
-- First what a full Redis refuses.
redis.call('HSET', KEYS[2], unpack(fields))
local kept = {}
for i = 1, #fields, 2 do kept[fields[i]] = true end
for _, field in ipairs(redis.call('HKEYS', KEYS[2])) do
  if not kept[field] then redis.call('HDEL', KEYS[2], field) end
end
redis.call('DEL', KEYS[1], KEYS[4], KEYS[5], KEYS[6], KEYS[7])

local keys, epoch, content_seq, last_seq = {log = KEYS[1], live = KEYS[3]}, 0, 0, 0
if is_over_deleted then
  tail.bytes, tail.least_epoch = 0, math.max(tail.least_epoch + 1, tonumber(meta.epoch or 0))
  local attempt = string.format('{"type":"attempt","attempt":%d,"reason":"replaced"}', tonumber(meta.attempts or 1) + 1)
  epoch, last_seq = add_durable(keys, tail, {attempt}, '', ARGV[5], ARGV[4])
  tail = {epoch = epoch, seq = last_seq, bytes = #attempt, least_epoch = epoch}
end
local events = arguments_from(events_from)
if #events > 0 or ending ~= '' then
  epoch, content_seq, last_seq = add_durable(keys, tail, events, ending, ARGV[5], ARGV[4])
  if #events == 0 then content_seq = 0 end
end
local content_epoch = content_seq > 0 and epoch or 0
local set = {'durable_tail', digits(content_epoch) .. '-' .. digits(content_seq)}
if last_seq > 0 then set[3], set[4] = 'last_id', digits(epoch) .. '-' .. digits(last_seq) end
local kept_ms = ARGV[3]
local durable = redis.call('HMGET', KEYS[2], 'ttl_s', 'expires_ms', 'retention_ms')
if ending ~= '' then
  kept_ms = durable[3]
  for _, part in ipairs({'status', status, 'ended_ms', digits(now_ms), 'terminal', ending, 'terminal_id', set[4]}) do
    set[#set + 1] = part
  end
end
redis.call('HSET', KEYS[2], unpack(set))
keep_durable(KEYS[1], KEYS[2], KEYS[4], durable[1], durable[2], now_ms, kept_ms)
return {1, content_epoch, content_seq}
