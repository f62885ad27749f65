-- release: a draining worker gives the stream back; whoever takes the job next may claim it at once.
-- KEYS lease, meta, log
-- ARGV worker, epoch
-- Returns 1 released (now, or by the same call before), 0 it was not mine any more.
-- An attempt that wrote nothing does not count, and one that did is no loss (handed_back). It has begun all the same
-- (started_ms stays): it has not waited too long for its first worker. The epoch rises: a renewal or an append of mine
-- that is still on its way would else lease it again, or write what the next attempt does not void.
local held = redis.call('GET', KEYS[1])
local meta = redis.call('HMGET', KEYS[2], 'epoch', 'status')
local released = string.format('%.0f', tonumber(ARGV[2]) + 1)
if not held and meta[1] == released and meta[2] == 'queued' then return 1 end
if held and held ~= ARGV[1] .. ':' .. ARGV[2] then return 0 end
if meta[1] ~= ARGV[2] then return 0 end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[2], 'status', 'queued', 'epoch', released)
local tail = redis.call('XREVRANGE', KEYS[3], '+', '-', 'COUNT', 1)[1]
local wrote = tail and string.match(tail[1], '^(%d+)') == ARGV[2]
redis.call('HINCRBY', KEYS[2], wrote and 'handed_back' or 'attempts', wrote and 1 or -1)
return 1
