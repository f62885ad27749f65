-- append_next: the usual append at the lowest price: the next events of a first attempt. append decides about all others.
-- KEYS log, meta, live channel
-- ARGV epoch, first_seq, event bytes of the log before it, format version, event JSON ...
-- The worker sends what neither begins nor ends the log, and keeps every bound (log/streams/appender.py).
-- Returns 1 appended; -1 nothing was written, and append must decide: the meta does not name this grant as running, a stop
-- is requested, the log has not exactly the entries before first_seq, or XADD refused (full Redis, entry of a newer epoch).
-- An attempt that began on an empty log wrote all its entries, from seq 1 on and without a hole. So their number is the
-- last seq, which is cheaper to read than the last entry; XADD takes no id that is not above the last one's.
local EVENTS_FROM = 5
local call, log, epoch, first, version = redis.call, KEYS[1], ARGV[1], ARGV[2], ARGV[4]
local meta = call('HMGET', KEYS[2], 'epoch', 'status', 'stop')
if meta[1] ~= epoch or meta[2] ~= 'running' or meta[3] or call('XLEN', log) ~= first - 1 then return -1 end

local bytes = ARGV[3] + #ARGV[EVENTS_FROM]
local added = redis.pcall('XADD', log, epoch .. '-' .. first, 'e', ARGV[EVENTS_FROM], 'v', version, 'b', bytes)
if type(added) == 'table' then return -1 end
-- Redis refuses none of the others: each id is above the one before, and memory is checked at a script's first write.
for i = EVENTS_FROM + 1, #ARGV do
  bytes = bytes + #ARGV[i]
  call('XADD', log, epoch .. '-' .. first + i - EVENTS_FROM, 'e', ARGV[i], 'v', version, 'b', bytes)
end
local head = '1 ' .. epoch .. ' ' .. first .. ' ' .. #ARGV - EVENTS_FROM + 1 .. '\n'
call('SPUBLISH', KEYS[3], head .. table.concat(ARGV, '\n', EVENTS_FROM))
return 1
