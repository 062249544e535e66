-- include: base activities instances
-- Make a suspended instance running and ready. ARGV: nonce, again, source, instance.
-- Returns an Update.

local before = answered(ARGV[1], ARGV[2])
if before then
  return before[1]
end
local id = ARGV[4]
local row = redis.call('HMGET', P .. 'i:' .. id, 'status', 'seq', 'queue', 'priority')
if not row[1] then
  return 'not found'
end
if row[1] ~= 'suspended' then
  return row[1] == 'running' and 'unchanged' or 'finished'
end
set_status(id, row[2], row[3], 'suspended', 'running')
redis.call('HSET', P .. 'i:' .. id, 'status', 'running', 'outcome', '')
list_ready(id, row[3], row[4], '', now)
flush()
publish(ARGV[3])
return answer(ARGV[1], { 'done' })[1]
