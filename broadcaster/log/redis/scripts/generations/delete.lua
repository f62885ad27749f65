-- delete: forget a stream that is over. What stays for a while is a tombstone: how it ended, and an epoch newer than
-- any that was granted, so that a worker that still holds its events (paused, or within its re-send time) is fenced.
-- KEYS meta, log, and what else goes with it (lease, viewers; of a feed what it knows of its appends)
-- ARGV tombstone_ttl_ms, that of an unlisted call, whose tombstone has of an error only its code
-- Returns 1 deleted, 2 deleted before, 0 unknown, -1 not over yet.
-- Works on a full Redis: only a script's first write is refused for memory, and HDEL needs none.
-- @include clock
-- @include status
-- @include tail
local KEPT = {v = 1, kind = 1, tenant = 1, status = 1, epoch = 1, created_ms = 1, ended_ms = 1, terminal = 1,
  terminal_id = 1, deleted_ms = 1}
local meta = redis.call('HMGET', KEYS[1], 'status', 'epoch', 'deleted_ms', 'unlisted', 'terminal')
local status = meta[1]
if not status then return 0 end
if meta[3] then return 2 end
if not is_over(status) then return -1 end

local now_ms = read_clock()
local last_epoch = read_tail(KEYS[2])
local epoch = math.max(now_ms, tonumber(meta[2] or 0) + 1, last_epoch + 1)
local ttl_ms = meta[4] and ARGV[2] or ARGV[1]
local fields = {'epoch', digits(epoch), 'deleted_ms', digits(now_ms)}
if meta[4] and status == 'failed' and meta[5] then
  local is_read, event = pcall(cjson.decode, meta[5])
  local code = is_read and type(event) == 'table' and type(event.code) == 'string' and event.code or 'error'
  -- In this order: the type is the first thing that is read of an event.
  fields[5] = 'terminal'
  fields[6] = '{"type":"error","errorText":"","code":' .. cjson.encode(code) .. '}'
end
redis.call('HDEL', KEYS[1], 'deleted_ms') -- it has none
redis.call('HSET', KEYS[1], unpack(fields))
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
  if not KEPT[field] then redis.call('HDEL', KEYS[1], field) end
end
redis.call('DEL', unpack(KEYS, 2))
redis.call('PEXPIRE', KEYS[1], ttl_ms)
return 1
