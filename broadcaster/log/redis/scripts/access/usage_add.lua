-- usage_add: count what an attempt has spent, for its tenant's day.
-- KEYS usage of the day
-- ARGV credential, model, input tokens, output tokens, 1 estimated (else 0), keep_ms, most rows
-- Returns what the credential has spent on this day, with this.
-- A row (a credential and a model) has the fields `i`, `o`, `n` and `e`; `t <credential>` is the sum of its tokens. A new
-- row beyond the bound counts as one of the model `other`.
local function row_of(model) return ' ' .. ARGV[1] .. ' ' .. model end
local row = row_of(ARGV[2])
if not redis.call('HGET', KEYS[1], 'n' .. row) and #redis.call('HKEYS', KEYS[1]) >= 4 * tonumber(ARGV[7]) then
  row = row_of('other')
end
redis.call('HINCRBY', KEYS[1], 'i' .. row, ARGV[3])
redis.call('HINCRBY', KEYS[1], 'o' .. row, ARGV[4])
redis.call('HINCRBY', KEYS[1], 'n' .. row, 1)
redis.call('HINCRBY', KEYS[1], 'e' .. row, ARGV[5])
local spent = redis.call('HINCRBY', KEYS[1], 't ' .. ARGV[1], tonumber(ARGV[3]) + tonumber(ARGV[4]))
redis.call('PEXPIRE', KEYS[1], ARGV[6])
return spent
