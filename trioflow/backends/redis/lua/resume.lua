-- include: base fenced activities instances
-- Make a suspended instance running and ready. ARGV: nonce, again, source, instance, life
-- (see `is_meant`). Returns an Effect.

local before = answered(ARGV[1], ARGV[2])
if before then
  return before[1]
end
local id = ARGV[4]
local row = redis.call(
  'HMGET', P .. 'i:' .. id, 'status', 'seq', 'queue', 'priority', 'deaths', 'life', 'start_at'
)
if not row[1] then
  return 'not found'
end
if not is_meant(row[6], ARGV[5]) then
  return 'finished'
end
if row[1] ~= 'suspended' then
  return row[1] == 'running' and 'unchanged' or 'finished'
end
set_status(id, row[2], row[3], 'suspended', 'running')
redis.call('HSET', P .. 'i:' .. id, 'status', 'running', 'outcome', '')
if is_suspect(row[5]) then
  redis.call('HSET', P .. 'i:' .. id, 'deaths', 0)
end
list_ready(id, row[3], row[4], row[5], '', first_ready(row[7]))
flush()
publish(ARGV[3])
return answer(ARGV[1], { 'done' })[1]
