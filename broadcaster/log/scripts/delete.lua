-- delete: forget a stream that is over. What stays for a while is a tombstone: how it ended, and an epoch newer than
-- any that was granted, so that a worker that still holds its events (paused, or within its re-send time) is fenced.
-- KEYS meta, log, and what else goes with it (lease, viewers; of a feed what it knows of its appends)
-- ARGV tombstone_ttl_ms
-- Returns 1 deleted, 2 deleted before, 0 unknown, -1 not over yet, -2 Redis is full: nothing was done.
-- @include tail
local KEPT = {v = 1, kind = 1, tenant = 1, status = 1, epoch = 1, created_ms = 1, ended_ms = 1, terminal = 1,
  terminal_id = 1, deleted_ms = 1}
local meta = redis.call('HMGET', KEYS[1], 'status', 'epoch', 'deleted_ms')
local status = meta[1]
if not status then return 0 end
if meta[3] then return 2 end
if status ~= 'finished' and status ~= 'failed' and status ~= 'aborted' then return -1 end

local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local last_epoch = read_tail(KEYS[2])
local epoch = math.max(now_ms, tonumber(meta[2] or 0) + 1, last_epoch + 1)
-- First what a full Redis refuses: without its tombstone nothing is deleted.
local written = redis.pcall('HSET', KEYS[1], 'epoch', string.format('%.0f', epoch),
  'deleted_ms', string.format('%.0f', now_ms))
if type(written) == 'table' and written.err then return -2 end
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
  if not KEPT[field] then redis.call('HDEL', KEYS[1], field) end
end
redis.call('DEL', unpack(KEYS, 2))
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 1
