-- include: base activities instances sharing ending limiting
-- Write a batch of units; each succeeds or fails by itself.
-- ARGV: nonce, again, source or '', worker, units, notices.
-- Returns for each unit {} if it is stored, or {'failed', taken, lost, unseen, limited ids}. Stores
-- nothing and returns 'dead' if the worker's lease has expired, or 'notice' if a parent is to be
-- told of an id that is taken and `notices` does not have the words.
-- Fencing: an instance's turn is stored only if this worker holds it, and the turn's number is the
-- next one. So a worker that was paused, or cut off, and wakes up late, stores nothing.

local nonce, source, worker = ARGV[1], ARGV[3], ARGV[4]
local before = answered(nonce, ARGV[2])
if before then
  return before
end
if not alive(worker) then
  return 'dead'
end

local units = cmsgpack.unpack(ARGV[5])
local NONE = {}
local notices = cmsgpack.unpack(ARGV[6])
local limits = may_have_limits() and load_limits() or no_limits()
local messages = {}
local cancels = {}
local retries = {}

-- Return whether every number is in the inbox, and none is named twice.
local function has_messages(id, wanted)
  if #wanted == 0 then
    return true
  end
  local seen = {}
  for _, number in ipairs(wanted) do
    if seen[number] then
      return false
    end
    seen[number] = true
  end
  for from = 1, #wanted, 1000 do
    local to = math.min(from + 999, #wanted)
    for _, found in ipairs(redis.call('HMGET', P .. 'x:' .. id, unpack(wanted, from, to))) do
      if not found then
        return false
      end
    end
  end
  return true
end

-- Compare the instance that is stored with what a commit expects: nil, or 'lost' or 'unseen'.
local function fence(commit, row)
  local consumed = commit.consumed or NONE
  local holds = row[1] == 'running' and row[2] == worker
    and tonumber(row[3]) == commit.execution and tonumber(row[4]) == commit.number
    and (row[8] or '') == commit.life
  if not holds or not has_messages(commit.id, consumed) then
    return 'lost'
  end
  local closes = commit.status and not is_open(commit.status)
  if closes and redis.call('HLEN', P .. 'x:' .. commit.id) ~= #consumed then
    return 'unseen'
  end
end

-- Look whether a commit can be stored. Returns the row, and whether it stays out because its id is
-- taken. `twin` is a commit of the same id that is stored before.
local function check(commit, twin, taken, failed, replaced)
  local id = commit.id
  local row = redis.call(
    'HMGET', P .. 'i:' .. id, 'status', 'worker', 'execution', 'turns', 'queue', 'seq', 'priority',
    'life', 'deaths'
  )
  if not commit.new then
    local why = fence(commit, row)
    if why then
      failed[#failed + 1] = { id, why }
    end
    return row, false
  end
  if not twin and not row[1] then
    return row, false
  end
  if #(commit.turns or NONE) > 0 or twin and twin.status and not is_open(twin.status) then
    taken[#taken + 1] = id -- the latter is free when its twin is stored
  elseif not twin and not is_open(row[1]) then
    replaced[#replaced + 1] = id
    commit.execution = tonumber(row[3]) + 1
  elseif not commit.new.parent then
    taken[#taken + 1] = id
  else
    return row, true
  end
  return row, false
end

-- The row as the commit leaves it, but for what is kept elsewhere.
local function result_of(commit)
  local turns = commit.number + #(commit.turns or NONE)
  local row = {
    status = 'running', execution = commit.execution, turns = turns,
    worker = commit.leased and worker or '', sticky = worker, wake_at = commit.wake_at,
    custom_status = commit.custom_status, attributes = commit.attributes, indexed = commit.indexed,
  }
  if #(commit.turns or NONE) > 0 then
    row.events = commit.events
  end
  if commit.status then
    row.status, row.outcome = commit.status, commit.outcome
    row.worker, row.sticky = '', ''
    if not is_open(row.status) then
      row.wake_at = nil
    end
  elseif commit.continued then
    row.execution, row.turns, row.events = commit.execution + 1, 0, 0
    row.input, row.carried = commit.continued, commit.carried
    row.ready_at = (commit.due or not commit.leased) and now or commit.wake_at
  else
    row.ready_at = commit.due and now or commit.wake_at
  end
  return row
end

-- Drop what was sent for the execution that ends.
local function drop_stale(id, execution)
  local inbox = redis.call('HGETALL', P .. 'x:' .. id)
  for at = 1, #inbox, 2 do
    local meant = tonumber(string.match(inbox[at + 1], '^%d*'))
    if meant and meant <= execution then
      redis.call('HDEL', P .. 'x:' .. id, inbox[at])
    end
  end
end

-- What counts for a suspect: a turn clears it of suspicion.
local function deaths_after(commit, row, deaths)
  if not is_suspect(deaths) then
    return deaths
  end
  if #(commit.turns or NONE) > 0 then
    return ''
  end
  return row.worker == '' and math.max(tonumber(deaths) - 1, 0) or deaths
end

local function update_instance(commit, row, stored)
  local id = commit.id
  if not is_open(row.status) then
    redis.call('DEL', P .. 'x:' .. id)
  else
    call_many('HDEL', P .. 'x:' .. id, commit.consumed or NONE, 1)
    if commit.continued then
      drop_stale(id, commit.execution)
    end
    if row.status == 'running' and redis.call('HLEN', P .. 'x:' .. id) > 0 then
      row.ready_at = now
    end
  end
  local fields = {
    'turns', row.turns, 'worker', row.worker, 'sticky', row.sticky,
    'wake_at', row.wake_at and exact(row.wake_at) or '', 'held_at', now_exact,
  }
  local function set(name, value)
    if value then
      fields[#fields + 1] = name
      fields[#fields + 1] = value
    end
  end
  set('events', row.events)
  set('custom_status', row.custom_status)
  if row.indexed then
    unindex(id, redis.call('HGET', P .. 'i:' .. id, 'indexed'))
    index(id, stored[6], row.indexed)
    set('attributes', row.attributes)
    set('indexed', row.indexed)
  end
  set('outcome', row.outcome)
  set('input', row.input)
  set('carried', row.carried)
  if commit.continued then
    set('execution', row.execution)
  end
  local deaths = deaths_after(commit, row, stored[9])
  if deaths ~= stored[9] then
    set('deaths', deaths)
  end
  if row.status ~= 'running' then
    set('status', row.status)
    set_status(id, stored[6], stored[5], 'running', row.status)
    if not is_open(row.status) then
      set('finished_at', exact(now))
    end
  end
  redis.call('HSET', P .. 'i:' .. id, unpack(fields))
  if row.worker == '' then
    zrem('held:' .. worker, id)
  end
  if row.status == 'running' then
    list_ready(id, stored[5], stored[7], deaths, row.worker, row.ready_at)
  end
end

local function create_instance(commit, row)
  row.events = row.events or 0
  if row.status == 'running' then
    if row.turns == 0 and not commit.continued then
      row.sticky = ''
      if not commit.leased then
        row.ready_at = first_ready(commit.new.start_at)
      end
    end
    local new = commit.new
    list_ready(commit.id, new.queue, new.priority, nil, row.worker, row.ready_at)
  end
  store_instance(commit.id, commit.new, row, commit.execution)
end

local function write_activities(commit)
  local id, execution, life = commit.id, commit.execution, commit.life
  for _, command in ipairs(commit.finished or NONE) do
    local activity = load_activity(id, execution, command, life)
    if activity then
      drop_activity(id, execution, command, life, activity)
    end
  end
  for _, new in ipairs(commit.activities or NONE) do
    local token = token_of(id, execution, new.command, life)
    store_new_activity(id, execution, new.command, life, {
      worker = new.leased and worker or '', queue = new.queue, cancel = false, attempt = 1,
      visible_at = now, scheduled_at = now, activity = new.activity, input = new.input,
      options = new.options, failure = '', priority = new.priority, limit_key = new.limit_key,
    })
    know_queue(new.queue)
    if new.leased then
      hold_activity(token, new.queue, worker, false)
    else
      zadd('visible' .. waiting_lane(new.queue, new.priority, new.limit_key), now, token)
    end
  end
end

-- A request has one answer, the first.
local function write_answer(id, life, given)
  local field = life .. ':' .. given.request
  if redis.call('HGET', P .. 'r:' .. id, field) == '' then
    redis.call('HSET', P .. 'r:' .. id, field, '=' .. given.data)
  end
end

-- Keep the execution that a commit continues, once that is written.
local function keep_continued(commit, events)
  keep_execution(commit.id, 'continued', {
    execution = exact(commit.execution), turns = commit.number + #(commit.turns or NONE),
    events = events, status = 'running', outcome = '', input = '', metadata = '',
    finished_at = now_exact,
  })
end

local function write_commit(commit, stored)
  local id = commit.id
  local row = result_of(commit)
  local events = commit.events
  if commit.continued and #(commit.turns or NONE) == 0 then
    events = redis.call('HGET', P .. 'i:' .. id, 'events') or 0
  end
  call_many('RPUSH', turns_key(id, commit.execution), commit.turns or NONE, 1)
  if commit.new then
    create_instance(commit, row)
  else
    update_instance(commit, row, stored)
  end
  if commit.continued then
    keep_continued(commit, events or 0)
  end
  write_activities(commit)
  for _, answered_request in ipairs(commit.answers or NONE) do
    write_answer(id, commit.life, answered_request)
  end
  for _, asked in ipairs(commit.cancelled or NONE) do
    cancels[#cancels + 1] = { id, commit.execution, commit.life, asked }
  end
  for _, message in ipairs(commit.messages or NONE) do
    messages[#messages + 1] = { id, message }
  end
end

-- The fields of a result are those of its message, too.
local function write_result(result)
  local id, execution, command, life = result.instance, result.execution, result.command, result.life
  local activity = load_activity(id, execution, command, life)
  if activity and activity.worker == worker then
    drop_activity(id, execution, command, life, activity)
    messages[#messages + 1] = { id, result }
  end
end

local function write_progress(progress)
  local id, execution = progress.instance, progress.execution
  local command, life = progress.command, progress.life
  local activity = load_activity(id, execution, command, life)
  if activity and activity.worker == worker then
    activity.progress = progress.progress
    store_activity(id, execution, command, life, activity)
  end
end

-- Plan what is to be done with a unit: return a plan, or why it fails; or nil if it needs a notice.
local function judge(unit, known)
  local taken, failed, replaced, over = {}, {}, {}, {}
  local own = {}
  local rows, told = {}, {}
  local complete = true
  for n, commit in ipairs(unit.instances) do
    if is_over(limits, commit) then
      over[#over + 1] = commit.id
    end
    local twin = own[commit.id] or known[commit.id]
    local row, stays_out = check(commit, twin, taken, failed, replaced)
    rows[n] = row
    if stays_out then
      local parent = commit.new.parent
      local token = token_of(parent.instance, parent.execution, parent.command, parent.life or '')
      told[n] = notices[token]
      complete = complete and told[n] ~= nil
    else
      own[commit.id] = commit
    end
  end
  if #taken + #failed + #over > 0 then
    local why = { lost = {}, unseen = {} }
    for _, one in ipairs(failed) do
      local ids = why[one[2]]
      ids[#ids + 1] = one[1]
    end
    return { failure = { 'failed', taken, why.lost, why.unseen, over } }
  end
  for id, commit in pairs(own) do
    known[id] = commit
  end
  return complete and { rows = rows, told = told, replaced = replaced } or nil
end

local function write_unit(unit, plan)
  if plan.failure then
    for _, id in ipairs(plan.failure[4]) do
      hasten(id, nil, nil, nil, worker)
    end
    return plan.failure
  end
  for _, id in ipairs(plan.replaced) do
    keep_execution(id, 'ended', {})
    forget_instance(id)
  end
  for n, commit in ipairs(unit.instances) do
    local event = plan.told[n]
    if event then
      local parent = commit.new.parent
      messages[#messages + 1] = { commit.id, {
        instance = parent.instance, execution = parent.execution, life = parent.life or '',
        event = event,
      } }
    else
      write_commit(commit, plan.rows[n])
    end
  end
  for _, progress in ipairs(unit.progress or NONE) do
    write_progress(progress)
  end
  for _, slot in ipairs(unit.kept or NONE) do
    redis.call('HSET', P .. 'kept:' .. worker, slot[1], cmsgpack.pack({ slot[2], slot[3], slot[4] }))
  end
  call_many('HDEL', P .. 'kept:' .. worker, unit.freed or NONE, 1)
  for _, result in ipairs(unit.results or NONE) do
    write_result(result)
  end
  for _, retry in ipairs(unit.retries or NONE) do
    retries[#retries + 1] = retry
  end
  return {}
end

local function deliver_message(sender, message)
  local done
  if message.claim then
    return ask_shared(message.instance, message)
  end
  if message.new then
    local top = message.replacing and open_row(message.instance)
    if top then
      local ending = message.replacing
      terminate_family(message.instance, top, ending.outcome, ending.before, ending.after)
    end
    done = create_one(message.new, message.reuse)
    flush()
  elseif message.terminated then
    local top, ending = open_row(message.instance), message.terminated
    done = top and (not message.life or (top[8] or '') == message.life)
    if done then
      terminate_family(message.instance, top, ending.outcome, ending.before, ending.after)
    end
  else
    done = deliver(message.instance, message)
  end
  local reply = done and message.sent or not done and message.failed
  if reply and reply ~= '' then
    deliver(sender, { event = reply })
  end
end

local function cancel_activity(id, execution, life, asked)
  local command = asked.command
  local activity = load_activity(id, execution, command, life)
  if not activity then
    return -- it has ended: its result is in the inbox
  end
  if activity.worker == '' then
    drop_activity(id, execution, command, life, activity)
    deliver(id, { execution = execution, life = life, event = asked.event })
  else
    mark_activity(id, execution, command, life, activity, asked.event)
  end
end

local function retry_activity(retry)
  local id, execution, command, life = retry.instance, retry.execution, retry.command, retry.life
  local activity = load_activity(id, execution, command, life)
  if activity and activity.worker == worker then
    activity.attempt = retry.attempt
    activity.failure = retry.failure
    give_back(id, execution, command, life, activity, retry.visible_at)
  end
end

local plans, known = {}, {}
for number, unit in ipairs(units) do
  plans[number] = judge(unit, known)
  if not plans[number] then
    return 'notice'
  end
end
redis.call('ZADD', P .. 'workers', 'XX', now, worker)
local reply = {}
for number, unit in ipairs(units) do
  reply[number] = write_unit(unit, plans[number])
end
flush()
for _, entry in ipairs(messages) do
  deliver_message(entry[1], entry[2])
end
for _, entry in ipairs(cancels) do
  cancel_activity(unpack(entry))
end
flush()
for _, retry in ipairs(retries) do
  retry_activity(retry)
end
flush()
if source ~= '' then
  publish(source)
end
return answer(nonce, reply)
