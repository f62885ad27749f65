-- release: a draining worker gives the stream back; the next worker that takes the job may claim it at once.
-- KEYS lease, meta, log
-- ARGV worker, epoch
-- Returns 1 released (now, or by the same call before), 0 it is not this worker's any more, or over.
-- An attempt that wrote nothing does not count, and one that did is no loss (handed_back). started_ms stays: the generation
-- has begun, so the queue time-out concerns it no more. The epoch rises: otherwise a renewal or an append of this worker
-- that is still on its way would lease the stream again, or write what the next attempt does not void.
-- @include clock
-- @include status
local lease = redis.call('GET', KEYS[1])
local meta = redis.call('HMGET', KEYS[2], 'epoch', 'status')
local released = digits(tonumber(ARGV[2]) + 1)
if not lease and meta[1] == released and meta[2] == 'queued' then return 1 end
if lease and lease ~= ARGV[1] .. ':' .. ARGV[2] then return 0 end
if meta[1] ~= ARGV[2] or is_over(meta[2]) then return 0 end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[2], 'status', 'queued', 'epoch', released)
local tail = redis.call('XREVRANGE', KEYS[3], '+', '-', 'COUNT', 1)[1]
local wrote = tail and string.match(tail[1], '^(%d+)') == ARGV[2]
redis.call('HINCRBY', KEYS[2], wrote and 'handed_back' or 'attempts', wrote and 1 or -1)
return 1
