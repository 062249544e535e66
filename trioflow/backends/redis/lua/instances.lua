-- The rows of instances: creating and ending them, and delivering messages to their inboxes.

local function is_open(status)
  return status == 'running' or status == 'suspended'
end

local queues_seen = {}

local function know_queue(queue)
  if not queues_seen[queue] then
    queues_seen[queue] = true
    sadd('queues', queue)
  end
end

local function set_status(id, seq, queue, before, after)
  zrem('status:' .. before, id)
  zadd('status:' .. after, seq, id)
  if is_open(before) then
    count(before, queue, -1)
  end
  if is_open(after) then
    count(after, queue, 1)
  else
    zadd('finished', now, id)
  end
end

-- Return how many workers died with an instance, or nil if it is no suspect.
local function is_suspect(deaths)
  return deaths and deaths ~= ''
end

-- Return where a free instance is to wait; note a priority that may not have occurred before.
local function open_place(queue, priority, deaths)
  open_lane(queue, priority)
  return place_of(queue, priority, is_suspect(deaths))
end

-- List an instance as something to do: its worker's, or anybody's.
local function list_ready(id, queue, priority, deaths, worker, ready_at)
  if worker ~= '' then
    zadd('held:' .. worker, ready_at or INF, id)
  elseif ready_at then
    zadd(open_place(queue, priority, deaths), ready_at, id)
  end
end

local function unindex(id, packed)
  each_indexed(packed, function(name, word, quantity)
    zrem(word_key(name, word), id)
    if quantity then
      zrem('iq:' .. name, id)
    end
  end)
end

local function index(id, seq, packed)
  each_indexed(packed, function(name, word, quantity)
    zadd(word_key(name, word), seq, id)
    if quantity then
      zadd('iq:' .. name, quantity, id)
    end
  end)
end

-- Return when a new instance, or one that is resumed, is ready: not before its time to start.
local function first_ready(start_at)
  return math.max(now, tonumber(start_at) or 0)
end

-- Store a new row. `row` has the fields of InstanceCommit's end result; `first` is the execution
-- with which the instance begins.
local function store_instance(id, new, row, first)
  local seq = next_listed()
  local fields = {
    'seq', seq, 'execution', row.execution, 'workflow', new.workflow, 'queue', new.queue,
    'status', row.status, 'turns', row.turns, 'events', row.events,
    'worker', row.worker, 'sticky', row.sticky, 'input', row.input or new.input,
    'created_at', now_exact,
  }
  local function optional(name, value)
    if value and value ~= '' then
      fields[#fields + 1] = name
      fields[#fields + 1] = value
    end
  end
  optional('life', new.life)
  optional('first', first > 1 and first)
  optional('priority', new.priority)
  optional('metadata', new.metadata)
  optional('start_at', new.start_at and exact(new.start_at))
  optional('options', new.options)
  local attributes, indexed = row.attributes or new.attributes, row.indexed or new.indexed
  optional('attributes', attributes)
  optional('indexed', indexed)
  index(id, seq, indexed)
  local wake_at = row.wake_at
  if new.timeout and row.turns == 0 and is_open(row.status) then
    wake_at = first_ready(new.start_at) + new.timeout
  end
  optional('wake_at', wake_at and exact(wake_at))
  optional('carried', row.carried)
  optional('outcome', row.outcome)
  optional('custom_status', row.custom_status)
  local parent = new.parent
  if parent then
    optional('parent', parent.instance)
    optional('parent_execution', parent.execution)
    optional('parent_command', parent.command)
    optional('parent_life', parent.life)
    zadd('children:' .. parent.instance, seq, id)
  end
  if not is_open(row.status) then
    optional('finished_at', now_exact)
    zadd('finished', now, id)
  else
    count(row.status, new.queue, 1)
  end
  redis.call('HSET', P .. 'i:' .. id, unpack(fields))
  zadd('status:' .. row.status, seq, id)
  zadd('workflow:' .. new.workflow, seq, id)
  know_queue(new.queue)
end

-- Delete a finished instance, except for its turns, and for activities that still run: they go when
-- their workers report them.
local function forget_instance(id)
  local row = redis.call('HMGET', P .. 'i:' .. id, 'status', 'parent', 'life', 'indexed', 'workflow')
  local life = row[3] or ''
  unindex(id, row[4])
  if row[1] then
    zrem('status:' .. row[1], id)
  end
  if row[5] then
    zrem('workflow:' .. row[5], id)
  end
  zrem('finished', id)
  if row[2] then
    zrem('children:' .. row[2], id)
  end
  each_activity(id, life, function(execution, command, activity)
    stop_activity(id, execution, command, life, activity)
  end)
  redis.call('DEL', P .. 'i:' .. id, P .. 'x:' .. id)
end

-- What is of no interest once an execution has ended.
local NOT_KEPT = {
  seq = true, first = true, worker = true, sticky = true, wake_at = true, carried = true,
  options = true, indexed = true, deaths = true, held_at = true,
}

-- Keep the row of an instance as that of an ended execution, but for some fields that differ.
local function keep_execution(id, how, differing)
  local row = {}
  local stored = redis.call('HGETALL', P .. 'i:' .. id)
  for at = 1, #stored, 2 do
    if not NOT_KEPT[stored[at]] then
      row[stored[at]] = stored[at + 1]
    end
  end
  for name, value in pairs(differing) do
    row[name] = value
  end
  redis.call('HSET', P .. 'e:' .. id, row.execution, cmsgpack.pack({ how, row }))
  redis.call('ZADD', P .. 'ended', row.finished_at, row.execution .. ':' .. id)
end

local function drop_execution(id, number)
  redis.call('UNLINK', turns_key(id, number))
  redis.call('HDEL', P .. 'e:' .. id, number)
  redis.call('ZREM', P .. 'ended', number .. ':' .. id)
end

-- Make ready what has got something to do; never later than it was.
local function hasten(id, queue, priority, deaths, worker)
  local place = worker ~= '' and 'held:' .. worker or open_place(queue, priority, deaths)
  local score = redis.call('ZSCORE', P .. place, id)
  if not score or tonumber(score) > now then
    redis.call('ZADD', P .. place, now, id)
  end
end

-- Return whether an instance has begun: with a turn, or since a worker holds it. Takes the fields
-- 'status', 'execution', 'first', 'turns', 'worker' of its row.
local function is_unstarted(status, execution, first, turns, worker)
  return status == 'running' and (first or '1') == execution and turns == '0' and worker == ''
end

-- Tell the schedule that has begun an instance, if one has, of its end: as `run_ended` in
-- _model/events.py writes it. Returns whether there is one.
local deliver
local function tell_schedule(id, options, status)
  if not options or not string.find(options, '"schedule"', 1, true) then
    return false
  end
  local ref = cjson.decode(options).schedule
  local run = string.gsub(cjson.encode(id), '\\/', '/')
  local value = '{"message":"run ended","run":' .. run .. ',"status":"' .. status .. '"}'
  local event = '{"event":"signal received","name":"trioflow.schedule","value":' .. value
    .. ',"plain":true}'
  deliver(ref.id, { life = ref.life, event = event })
  return true
end

-- End at once what has not begun; tell its parent. `unstarted` has its outcome; before and after, the
-- parts of the parent's event between which stands the parent's command; and by, if a parent asked.
-- Returns false if it has another parent: then it is not the one that was meant.
local function end_unstarted(id, unstarted)
  local row = redis.call(
    'HMGET', P .. 'i:' .. id, 'seq', 'queue', 'priority', 'deaths', 'parent', 'parent_execution',
    'parent_command', 'parent_life', 'options'
  )
  local by = unstarted.by
  if by then
    local same = row[5] == by.instance and tonumber(row[6]) == by.execution
      and (row[7] or '') == by.command and (row[8] or '') == (by.life or '')
    if not same then
      return false
    end
  end
  set_status(id, row[1], row[2], 'running', 'cancelled')
  zrem(place_of(row[2], row[3], is_suspect(row[4])), id)
  redis.call(
    'HSET', P .. 'i:' .. id, 'status', 'cancelled', 'outcome', unstarted.outcome,
    'finished_at', now_exact, 'sticky', '', 'wake_at', ''
  )
  redis.call('DEL', P .. 'x:' .. id)
  flush()
  if row[5] then
    local event = unstarted.before .. cjson.encode(row[7] or '') .. unstarted.after
    deliver(row[5], { execution = tonumber(row[6]), life = row[8] or '', event = event })
  else
    tell_schedule(id, row[9], 'cancelled')
  end
  return true
end

-- Put one event into an inbox; return whether its target is there and unfinished. Of `message` count
-- event, execution, life, at and unstarted. What was gathered must have been flushed.
function deliver(id, message)
  local row = redis.call(
    'HMGET', P .. 'i:' .. id, 'status', 'execution', 'queue', 'worker', 'priority', 'life',
    'deaths', 'turns', 'first', 'start_at'
  )
  local execution, life = message.execution, message.life
  if not row[1] or not is_open(row[1]) then
    return false
  end
  if execution and tonumber(row[2]) ~= execution or life and (row[6] or '') ~= life then
    return false
  end
  local unstarted = message.unstarted and is_unstarted(row[1], row[2], row[9], row[8], row[4])
  if unstarted and end_unstarted(id, message.unstarted) then
    return true
  end
  local number = next_number('message')
  local at = message.at and exact(message.at) or now_exact
  local value = (execution or '') .. '@' .. at .. ':' .. message.event
  redis.call('HSET', P .. 'x:' .. id, number, value)
  if row[1] == 'running' and first_ready(row[10]) == now then
    hasten(id, row[3], row[5], row[7], row[4])
  end
  return true
end

-- Keep a request for its answer; return whether it is new. Nothing to do without one.
local function keep_request(id, life, request)
  return request == '' or redis.call('HSETNX', P .. 'r:' .. id, life .. ':' .. request, '') == 1
end

local function has_request(id, life, request)
  return request ~= '' and redis.call('HEXISTS', P .. 'r:' .. id, life .. ':' .. request) == 1
end

-- Delete an activity whose cancellation was asked for, and report it.
local function drop_cancelled(id, execution, command, life, activity)
  drop_activity(id, execution, command, life, activity)
  if activity.cancel and activity.cancel ~= '' then
    deliver(id, { execution = execution, life = life, event = activity.cancel })
  end
end

-- Give back an activity of a worker: to all, unless it was to be cancelled. What was gathered must
-- have been flushed.
local function give_back(id, execution, command, life, activity, visible_at)
  if activity.cancel then
    drop_cancelled(id, execution, command, life, activity)
  else
    offer_activity(id, execution, command, life, activity, visible_at)
  end
end

-- As `give_back`, for tokens; `change` may alter each row before. What is not there is not listed any
-- more either.
local function give_back_all(worker, tokens, change)
  for _, token in ipairs(tokens) do
    local id, execution, command, life = parse_token(token)
    local activity = id and load_activity(id, execution, command, life)
    if activity and not activity.damaged then
      if change then
        change(activity)
      end
      give_back(id, execution, command, life, activity, now)
    else
      srem('running:' .. worker, token)
      srem('marked:' .. worker, token)
    end
  end
end
