-- release: a draining worker gives the stream back; whoever takes the job next may claim it at once.
-- KEYS lease, meta, log
-- ARGV worker, epoch
-- Returns 1 released, 0 it was not mine any more. An attempt that wrote nothing does not count.
local meta_epoch = redis.call('HGET', KEYS[2], 'epoch')
local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[1] .. ':' .. ARGV[2] then return 0 end
if meta_epoch ~= ARGV[2] then return 0 end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[2], 'status', 'queued')
local tail = redis.call('XREVRANGE', KEYS[3], '+', '-', 'COUNT', 1)[1]
if not tail or string.match(tail[1], '^(%d+)') ~= ARGV[2] then redis.call('HINCRBY', KEYS[2], 'attempts', -1) end
return 1
