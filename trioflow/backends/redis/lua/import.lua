-- include: base activities instances moving
-- Add instances in their order, but for those of which the id is there. ARGV: nonce, again, source, the
-- id of the move, the instances. Returns 0 if the store is not the destination of that move.

local before = answered(ARGV[1], ARGV[2])
if before then
  return before[1]
end
if not is_destination(ARGV[4]) then
  return 0
end

local function add_row(one)
  local id, row, seq = one.id, one.row, next_listed()
  local fields = { 'seq', seq }
  for name, value in pairs(row) do
    fields[#fields + 1] = name
    fields[#fields + 1] = value
  end
  redis.call('HSET', P .. 'i:' .. id, unpack(fields))
  index(id, seq, row.indexed)
  zadd('status:' .. row.status, seq, id)
  zadd('workflow:' .. row.workflow, seq, id)
  if row.parent then
    zadd('children:' .. row.parent, seq, id)
  end
  know_queue(row.queue)
  if is_open(row.status) then
    count(row.status, row.queue, 1)
  else
    zadd('finished', row.finished_at, id)
  end
  if one.ready_at then
    list_ready(id, row.queue, row.priority, row.deaths, '', one.ready_at)
  end
end

local function add_activity(id, one)
  know_queue(one.queue)
  offer_activity(id, one.execution, one.command, one.life, {
    worker = '', queue = one.queue, cancel = false, attempt = one.attempt,
    scheduled_at = one.scheduled_at, activity = one.activity, input = one.input,
    options = one.options, failure = one.failure, priority = one.priority,
    progress = one.progress, limit_key = one.limit_key,
  }, one.visible_at)
end

local function add(one)
  local id = one.id
  for _, execution in ipairs(one.executions) do
    local key = turns_key(id, execution[1])
    redis.call('DEL', key) -- what somebody has left who removed the instance
    call_many('RPUSH', key, execution[2], 1)
  end
  for _, message in ipairs(one.inbox) do
    local value = (message[1] or '') .. '@' .. exact(message[2]) .. ':' .. message[3]
    redis.call('HSET', P .. 'x:' .. id, next_number('message'), value)
  end
  for _, ended in ipairs(one.ended) do
    local number = ended[2].execution
    redis.call('HSET', P .. 'e:' .. id, number, cmsgpack.pack(ended))
    redis.call('ZADD', P .. 'ended', ended[2].finished_at, number .. ':' .. id)
  end
  call_many('HSET', P .. 'r:' .. id, one.requests, 1)
  for _, activity in ipairs(one.activities) do
    add_activity(id, activity)
  end
  add_row(one)
end

for _, one in ipairs(cmsgpack.unpack(ARGV[5])) do
  if redis.call('EXISTS', P .. 'i:' .. one.id) == 0 then
    add(one)
    flush()
  end
end
return answer(ARGV[1], { 1 })[1]
